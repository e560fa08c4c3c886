"""Kill trainings at random moments, resume them, and compare what they end with to what nobody disturbed.

    python tests/runs/kill_and_resume.py                 # 5 kills of each kind, of runs of two minutes: hours
    python tests/runs/kill_and_resume.py --kills 1 --steps 60 --every_n_steps 5 --kinds maml-0 swa

``--help`` lists the kinds: MAML, prototypical networks and MetaGAN with its two optimisers, with 0 and 2
workers, all with dropout and a schedule of the learning rate; then prototypical networks with callbacks and schedules
that look at metrics, with averaged weights, and with loaders that are made more than once; and policies, which
act before each step: by trust region steps, of learned rates too, by ProMP and by Reptile. A run is killed (SIGKILL,
with its workers) at a moment drawn uniformly from the time that the undisturbed run took, then started again with the
same command; of the kind ``changed``, with other settings, against a run that was given those at the same step and not
killed again. Everything in
``last.ckpt`` that decides how training goes on must be the same to the last bit: weights, buffers, optimiser, schedule,
the position in the stream of episodes and the random states. Exit code 1 if any differs.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from metalit.algorithms import PrototypicalNetwork

ROOT = Path(__file__).parents[2]
ALGORITHMS = ("MAML", "PrototypicalNetwork", "MetaGANMAML")
POLICIES = ("MAMLPolicyGradient", "MetaSGDPolicyGradient", "ReptilePolicyGradient", "ProMP")
WORKERS = (0, 2)
STEPS_PER_SECOND = {
    "MAML": 25,
    "PrototypicalNetwork": 45,
    "MetaGANMAML": 12,
    "MAMLPolicyGradient": 3,
    "ProMP": 5,
    "MetaSGDPolicyGradient": 3,
    "ReptilePolicyGradient": 5,
}  # roughly, on one core: two minutes need not be exact

GENERATORS = {
    "MetaGANMAML": {"generator": {"class_path": "metalit.networks.ImageGenerator", "init_args": {"channels": 8}}}
}


class Dropping(nn.Module):
    """Any embedding with dropout behind it."""

    def __init__(self, body: nn.Module, rate: float = 0.2) -> None:
        super().__init__()
        self.body, self.dropout = body, nn.Dropout(rate)
        self.features = body.features

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.body(x))


class Planned(PrototypicalNetwork):
    """Asks how many steps there are to come, for which Lightning makes the loader before it restores anything."""

    def configure_optimizers(self) -> Any:
        assert self.trainer.estimated_stepping_batches > 0
        return super().configure_optimizers()


class Kind(NamedTuple):
    """A kind of run.

    Attributes:
        algorithm: the class, metalit's or one of this file.
        workers: processes that prepare episodes.
        callback: a callback of Lightning's and its settings.
        model: settings of the learner; None takes one away.
        trainer: settings of the trainer.
        resumed: options with which it is resumed.
    """

    algorithm: str = "PrototypicalNetwork"
    workers: int = 0
    callback: tuple[str, dict[str, Any]] | None = None
    model: dict[str, Any] = {}  # noqa: RUF012
    trainer: dict[str, Any] = {}  # noqa: RUF012
    resumed: tuple[str, ...] = ()


# five epochs; so that batch norm has an epoch of its own in the end
IN_EPOCHS = {"max_steps": -1, "max_epochs": 5}
PLATEAU = {"class_path": "ReduceLROnPlateau", "init_args": {"patience": 0, "threshold": 0.5}}
KINDS = {f"{name.lower()}-{workers}": Kind(name, workers) for name, workers in product(ALGORITHMS, WORKERS)} | {
    "stopping": Kind(callback=("EarlyStopping", {"monitor": "val/loss", "min_delta": 9.0, "patience": 3})),
    "plateau": Kind(model={"lr_scheduler": PLATEAU, "lr_scheduler_interval": "epoch"}),
    "ema": Kind(callback=("EMAWeightAveraging", {"decay": 0.9})),
    "swa": Kind(
        callback=(
            "StochasticWeightAveraging",
            {"swa_lrs": 0.01, "swa_epoch_start": 2, "annealing_epochs": 2},
        ),
        model={"lr_scheduler": None},
        trainer=IN_EPOCHS,
    ),
    "changed": Kind(resumed=("--model.optimizer.lr", "0.01", "--model.lr_scheduler.T_max", "1000")),
    "reloaded": Kind(trainer={"reload_dataloaders_every_n_epochs": 1}),
    "planned": Kind("Planned"),
    "policy": Kind("MAMLPolicyGradient"),
    "promp": Kind("ProMP"),
    "meta-sgd-policy": Kind("MetaSGDPolicyGradient"),
    "reptile-policy": Kind("ReptilePolicyGradient"),
}


def of_policies(kind: Kind, steps: int, every_n_steps: int) -> dict[str, Any]:
    """Return model, data and checkpoints of a kind of run that acts."""
    mlp = {"class_path": "metalit.networks.MLP", "init_args": {"inputs": 2, "hidden": [20], "outputs": 2}}
    policy = {"class_path": "metalit.networks.GaussianPolicy", "init_args": {"network": mlp}}
    navigation = {"class_path": "metalit.environments.Navigation", "init_args": {"horizon": 20}}
    numbers = {"shots": 5, "queries": 5, "tasks_per_batch": 2, "val_episodes": 4, "episodes_per_epoch": 2 * steps // 5}
    return {
        "model": {"class_path": f"metalit.algorithms.{kind.algorithm}", "init_args": {"network": policy, **kind.model}},
        "data": {
            "class_path": "metalit.data.EnvironmentTasks",
            "init_args": {"environment": navigation, "num_workers": kind.workers, **numbers},
        },
        "checkpoint": {"every_n_steps": every_n_steps, "monitor": "val/return", "mode": "max"},
    }


def settings(kind: Kind, steps: int, every_n_steps: int) -> dict[str, Any]:
    """Return the configuration of one kind of run."""
    algorithm, home = (
        kind.algorithm,
        "kill_and_resume" if kind.algorithm == "Planned" else "metalit.algorithms",
    )
    prototypes = algorithm in ("PrototypicalNetwork", "Planned")
    callback = [] if kind.callback is None else [kind.callback]
    conv4 = {
        "channels": 8,
        "downsample": "stride",
        "batch_norm": "running" if prototypes else "batch",
    }
    body = {
        "class_path": "kill_and_resume.Dropping",
        "init_args": {"body": {"class_path": "metalit.networks.Conv4", "init_args": conv4}},
    }
    head = {"class_path": "metalit.networks.Classifier", "init_args": {"body": body}}
    return {
        "model": {
            "class_path": f"{home}.{algorithm}",
            "init_args": {
                "network": body if prototypes else head,
                **GENERATORS.get(algorithm, {}),
                "lr_scheduler_interval": "step",
                "lr_scheduler": {
                    "class_path": "torch.optim.lr_scheduler.CosineAnnealingLR",
                    "init_args": {"T_max": steps},
                },
                **kind.model,
            },
        },
        "data": {
            "class_path": "metalit.data.Glyphs",
            "init_args": {
                "classes": 50, "eval_classes": 20, "queries": 3, "tasks_per_batch": 2, "val_episodes": 20,
                "episodes_per_epoch": 2 * max(steps // 5, 1), "num_workers": kind.workers,
            },
        },
        "trainer": {
            "max_steps": steps, "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
            "accelerator": "cpu", "log_every_n_steps": 10,
            "callbacks": [
                {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": args} for name, args in callback
            ],
            **kind.trainer,
        },
        "checkpoint": {"every_n_steps": every_n_steps},
        **(of_policies(kind, steps, every_n_steps) if kind.algorithm in POLICIES else {}),
    }  # fmt: skip


def start(config: Path, folder: Path, options: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start or resume a run, in a process group of its own."""
    path = os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "fit", "--config", str(config), "--run_dir", str(folder),
         "--ckpt_path", "last", "--threads", "1", *options],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=(folder.parent / f"{folder.name}.log").open("ab"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def finish(config: Path, folder: Path, options: Sequence[str] = ()) -> None:
    """Run or resume to the end.

    Raises:
        RuntimeError: the run ended with an error.
    """
    process = start(config, folder, options)
    if process.wait() != 0:
        raise RuntimeError((folder.parent / f"{folder.name}.log").read_text()[-3000:])


def kill_at(moment: float, config: Path, folder: Path, options: Sequence[str] = ()) -> bool:
    """Start a run and kill it after so many seconds; return whether it was still running."""
    process = start(config, folder, options)
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
    return left_shape == right_shape and all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def step_of(folder: Path) -> int:
    """Return the step from which a killed run will go on."""
    path = folder / "checkpoints" / "last.ckpt"
    return int(torch.load(path, weights_only=True)["global_step"]) if path.exists() else 0


def disturbed(kind: Kind, config: Path, run: Path, moment: float) -> Path:
    """Kill a run at a moment, or earlier if it was faster this time, and resume it to its end; return its folder."""
    while not kill_at(moment, config, run):
        run, moment = run.with_name(f"{run.name}x"), 0.8 * moment
    print(f"killed after {moment:.1f} s, goes on from step {step_of(run)}", end=", ", flush=True)
    if kind.resumed:
        if run.exists():  # else it was killed before it had a folder
            shutil.copytree(run, run.with_name(f"{run.name}-reference"))
        kill_at(moment, config, run, kind.resumed)
    finish(config, run, kind.resumed)
    return run


def expected(kind: Kind, config: Path, run: Path) -> dict[str, Any]:
    """Return the state that a killed run must end with."""
    if not kind.resumed:
        return state(run.parent / "undisturbed")
    reference = run.with_name(f"{run.name}-reference")
    finish(config, reference, kind.resumed)
    return state(reference)


def kills_of(name: str, folder: Path, args: argparse.Namespace, draw: random.Random) -> int:
    """Kill runs of one kind, and return how many ended as they must."""
    kind, survived = KINDS[name], 0
    steps = args.steps or int(args.seconds * STEPS_PER_SECOND.get(kind.algorithm, 45))
    folder.mkdir()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings(kind, steps, args.every_n_steps)))
    began = time.monotonic()
    finish(config, folder / "undisturbed")
    took = time.monotonic() - began
    for kill in range(args.kills):
        print(f"{name}, {steps} steps in {took:.1f} s: ", end="")
        run = disturbed(kind, config, folder / f"killed-{kill}", draw.uniform(0, took))
        wrong = differences(expected(kind, config, run), state(run))
        survived += not wrong
        print(f"differs in {', '.join(wrong)}" if wrong else "identical", flush=True)
    return survived


def main() -> int:
    """Return 0 if every killed run ended as the undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="kills of each kind of run")
    parser.add_argument("--seconds", type=float, default=120, help="how long a run takes, roughly")
    parser.add_argument("--steps", type=int, help="steps of a run, instead of --seconds")
    parser.add_argument("--every_n_steps", type=int, default=100, help="steps from one last.ckpt to the next")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), help=f"which kinds: {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        survived = sum(kills_of(name, Path(scratch) / name, args, draw) for name in args.kinds)
    kills = args.kills * len(args.kinds)
    print(f"{survived} of {kills} identical")
    return 0 if survived == kills else 1


if __name__ == "__main__":
    sys.exit(main())
