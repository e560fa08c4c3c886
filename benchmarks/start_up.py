"""What a command costs before it does its work: processor seconds, user and system, of its process and their children.

    python benchmarks/start_up.py
    python benchmarks/start_up.py --path . --path ../before

Each command runs in a process of its own. ``fit`` ends after its first training step, on
``configs/sinusoid/maml.yaml``: not compiled; compiled with an empty cache of compiled code, as on the first start; and
with that cache, as on the second. The yardstick is ``import lightning.pytorch`` alone. All take turns, so that they
share whatever else the machine is doing, and a ratio compares two of one round. ``--path`` names the checkouts to
measure, such as one from before a change beside this one; ``--python`` another Python with metalit's requirements.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import lightning as L

ROOT = Path(__file__).resolve().parent.parent
YARDSTICK = "import lightning.pytorch"
IMPORTS = {"import torch": "import torch", YARDSTICK: YARDSTICK}
JOB = {"cluster": "metalit.cluster.Local", "id": "1"}
FIRST_STEP = ["--trainer.callbacks+=start_up.FirstStep", "--trainer.enable_model_summary", "false"]


class FirstStep(L.Callback):
    """Ends the process after the first training step."""

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """End as a finished program does, so that this is paid for as well."""
        raise SystemExit(0)


def commands(path: Path, compiled: bool) -> dict[str, list[str]]:
    """Return the commands to measure in a checkout, in an order in which the second start follows the first."""
    fit = ["fit", "--config", str(path / "configs" / "sinusoid" / "maml.yaml"), *FIRST_STEP]
    found = {name: [name] for name in ("--version", "--help")}
    found |= {name: [name, "job"] for name in ("status", "logs", "cancel")}
    found |= {"fit --help": ["fit", "--help"], "fit, first step": [*fit, "--model.engine.compile", "false"]}
    if compiled:
        found |= {"fit, compiled, first start": fit, "fit, compiled, second start": fit}
    return found


def seconds(command: Sequence[str], folder: Path, path: Path) -> float:
    """Run a program and return its processor seconds, with those of the processes that it waited for."""
    # the folder of this script, so that the command line finds the callback
    places = os.pathsep.join([str(path / "src"), str(Path(__file__).resolve().parent)])
    environment = {**os.environ, "PYTHONPATH": places, "TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled")}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{(folder / 'said').read_text()}")
    return usage.ru_utime + usage.ru_stime


def measure(python: str, path: Path, compiled: bool) -> dict[str, float]:
    """Return the processor seconds of each command in a checkout, once each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job" / "logs").mkdir(parents=True)
        task = {"name": "", "folder": str(folder / "job"), "id": "1", "log": str(folder / "job" / "logs" / "1.log")}
        record = {**JOB, "folder": str(folder / "job"), "tasks": [task]}
        (folder / "job" / "job.json").write_text(json.dumps(record))
        found = {name: seconds([python, "-c", code], folder, path) for name, code in IMPORTS.items()}
        program = [python, str(path / "train.py")]
        return found | {
            name: seconds([*program, *words], folder, path) for name, words in commands(path, compiled).items()
        }


def with_quartiles(name: str, values: Sequence[float]) -> str:
    """Return a line with the median and the quartiles of some values."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return f"{name:56}{middle:7.3f} ({low:.3f} to {high:.3f})"


def report(rounds: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Return the lines of the table: seconds by checkout, then ratios."""
    lines = []
    for path, found in rounds.items():
        lines += [f"{path}, seconds", *(with_quartiles(name, [one[name] for one in found]) for name in found[0])]
        for name in ("fit --help", "fit, first step"):
            ratios = [one[name] / one[YARDSTICK] for one in found]
            lines.append(with_quartiles(f"{name} / {YARDSTICK}", ratios))
    return lines


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs the commands")
    parser.add_argument("--path", type=Path, action="append", help="a checkout; may be repeated; by default this one")
    parser.add_argument("--eager", action="store_true", help="leave out the starts that compile, which take minutes")
    parser.add_argument("--quick", action="store_true", help="one round, nothing compiled: does it run?")
    options = parser.parse_args(args)
    paths = [path.resolve() for path in options.path or [ROOT]]
    rounds: dict[str, list[dict[str, float]]] = {}
    for _ in range(1 if options.quick else options.rounds):
        for path in paths:
            rounds.setdefault(str(path), []).append(measure(options.python, path, not (options.quick or options.eager)))
    print("processor seconds: median (quartiles)")
    print("\n".join(report(rounds)))


if __name__ == "__main__":
    main()
