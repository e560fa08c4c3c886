"""Kill trainings at random moments, resume them, and compare what they end with to what nobody disturbed.

    python tests/runs/kill_and_resume.py                 # 20 kills of runs of two minutes: about an hour
    python tests/runs/kill_and_resume.py --kills 1 --steps 60 --every_n_steps 5

Six kinds of run take turns: MAML, prototypical networks and MetaGAN with its two optimisers, with 0 and 2 workers, all
with dropout and a schedule of the learning rate. A run is killed (SIGKILL, with its workers) at a moment drawn
uniformly from the time that the undisturbed run took, then started again with the same command. Everything in
``last.ckpt`` that decides how training goes on must be the same to the last bit: weights, buffers, optimiser, schedule,
the position in the stream of episodes and the random states. Exit code 1 if any differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

ROOT = Path(__file__).parents[2]
ALGORITHMS = ("MAML", "PrototypicalNetwork", "MetaGANMAML")
WORKERS = (0, 2)
STEPS_PER_SECOND = {
    "MAML": 25,
    "PrototypicalNetwork": 45,
    "MetaGANMAML": 12,
}  # roughly, on one core: two minutes need not be exact

GENERATORS = {
    "MetaGANMAML": {
        "generator": {"class_path": "metalit.networks.ImageGenerator", "init_args": {"channels": 8}}
    }
}


class Dropping(nn.Module):
    """Any embedding with dropout behind it."""

    def __init__(self, body: nn.Module, rate: float = 0.2) -> None:
        super().__init__()
        self.body, self.dropout = body, nn.Dropout(rate)
        self.features = body.features

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.body(x))


def settings(algorithm: str, workers: int, steps: int, every_n_steps: int) -> dict[str, Any]:
    """Return the configuration of one kind of run."""
    conv4 = {
        "channels": 8,
        "downsample": "stride",
        "batch_norm": "running" if algorithm == "PrototypicalNetwork" else "batch",
    }
    body = {
        "class_path": "kill_and_resume.Dropping",
        "init_args": {"body": {"class_path": "metalit.networks.Conv4", "init_args": conv4}},
    }
    head = {"class_path": "metalit.networks.Classifier", "init_args": {"body": body}}
    return {
        "model": {
            "class_path": f"metalit.algorithms.{algorithm}",
            "init_args": {
                "network": body if algorithm == "PrototypicalNetwork" else head,
                **GENERATORS.get(algorithm, {}),
                "lr_scheduler_interval": "step",
                "lr_scheduler": {
                    "class_path": "torch.optim.lr_scheduler.CosineAnnealingLR",
                    "init_args": {"T_max": steps},
                },
            },
        },
        "data": {
            "class_path": "metalit.data.Glyphs",
            "init_args": {
                "classes": 50, "eval_classes": 20, "queries": 3, "tasks_per_batch": 2, "val_episodes": 20,
                "episodes_per_epoch": 2 * max(steps // 5, 1), "num_workers": workers,
            },
        },
        "trainer": {
            "max_steps": steps, "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
            "accelerator": "cpu", "log_every_n_steps": 10,
        },
        "checkpoint": {"every_n_steps": every_n_steps},
    }  # fmt: skip


def start(config: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start or resume a run, in a process group of its own."""
    path = os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "fit", "--config", str(config), "--run_dir", str(folder),
         "--ckpt_path", "last", "--threads", "1"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=(folder.parent / f"{folder.name}.log").open("ab"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def finish(config: Path, folder: Path) -> None:
    """Run or resume to the end.

    Raises:
        RuntimeError: the run ended with an error.
    """
    process = start(config, folder)
    if process.wait() != 0:
        raise RuntimeError((folder.parent / f"{folder.name}.log").read_text()[-3000:])


def kill_at(moment: float, config: Path, folder: Path) -> bool:
    """Start a run and kill it after so many seconds; return whether it was still running."""
    process = start(config, folder)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def state(folder: Path) -> dict[str, Any]:
    """Return what decides how training goes on, from the last checkpoint."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    names = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "random_states")
    kept = {name: checkpoint[name] for name in names}
    kept["position"] = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    return kept


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of the parts that are not the same to the last bit."""
    return [name for name in one if not same(one[name], other[name])]


def same(one: Any, other: Any) -> bool:
    """Whether two nested values are equal, tensors bit by bit."""
    (left, left_shape), (right, right_shape) = tree_flatten(one), tree_flatten(other)
    pairs = zip(left, right, strict=True)
    return left_shape == right_shape and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs
    )


def step_of(folder: Path) -> int:
    """Return the step from which a killed run will go on."""
    path = folder / "checkpoints" / "last.ckpt"
    return int(torch.load(path, weights_only=True)["global_step"]) if path.exists() else 0


def main() -> int:
    """Return 0 if every killed run ended as the undisturbed one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=5, help="kills of each kind of run")
    parser.add_argument("--seconds", type=float, default=120, help="how long a run takes, roughly")
    parser.add_argument("--steps", type=int, help="steps of a run, instead of --seconds")
    parser.add_argument("--every_n_steps", type=int, default=100, help="steps from one last.ckpt to the next")
    parser.add_argument("--kinds", type=int, nargs="*", default=list(range(6)), help="which kinds")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    kinds = [list(product(ALGORITHMS, WORKERS))[kind] for kind in args.kinds]
    survived = 0
    with tempfile.TemporaryDirectory() as scratch:
        for algorithm, workers in kinds:
            steps = args.steps or int(args.seconds * STEPS_PER_SECOND[algorithm])
            folder = Path(scratch) / f"{algorithm}-{workers}"
            folder.mkdir()
            config = folder / "config.yaml"
            config.write_text(yaml.safe_dump(settings(algorithm, workers, steps, args.every_n_steps)))
            began = time.monotonic()
            finish(config, folder / "undisturbed")
            took = time.monotonic() - began
            expected = state(folder / "undisturbed")
            for kill in range(args.kills):
                run, moment = folder / f"killed-{kill}", draw.uniform(0, took)
                while not kill_at(moment, config, run):
                    run, moment = run.with_name(f"{run.name}x"), 0.8 * moment  # it was faster this time
                step = step_of(run)
                finish(config, run)
                wrong = differences(expected, state(run))
                survived += not wrong
                print(
                    f"{algorithm}, {workers} workers: killed after {moment:.1f} of {took:.1f} s, went on from step "
                    f"{step} of {steps}: {'differs in ' + ', '.join(wrong) if wrong else 'identical'}",
                    flush=True,
                )
    print(f"{survived} of {args.kills * len(kinds)} identical")
    return 0 if survived == args.kills * len(kinds) else 1


if __name__ == "__main__":
    sys.exit(main())
