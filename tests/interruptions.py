"""Callbacks, named in configurations, that disturb a training or write down what it does."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L


class Interrupt(L.Callback):
    """Sends signals to the process at one moment of a training, and as often as there are signals.

    Args:
        moment: the name of a callback hook.
        step: the step after which, in which case 0 is before the first.
        signals: names of signals.
        rank: which process does it.
        target: ``self``, ``group`` (all processes, with workers) or ``parent``.
    """

    def __init__(
        self,
        moment: str,
        step: int,
        signals: Sequence[str] = ("SIGTERM",),
        rank: int = 0,
        target: str = "self",
    ) -> None:
        self.moment, self.step, self.signals, self.rank, self.target = moment, step, signals, rank, target

    def _reach(self, moment: str, trainer: L.Trainer) -> None:
        if (moment, trainer.global_step, trainer.global_rank) != (self.moment, self.step, self.rank):
            return
        for name in self.signals:
            number = signal.Signals[name]
            if self.target == "group":
                # not by ourselves: what a worker is told by its own main process it obeys
                group = ["kill", f"-{number}", "--", f"-{os.getpgid(0)}"]
                subprocess.run(group, check=False, start_new_session=True)
            else:
                os.kill(os.getpid() if self.target == "self" else os.getppid(), number)

    def on_sanity_check_start(self, trainer: L.Trainer, *args: Any) -> None:
        self._reach("on_sanity_check_start", trainer)

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        self._reach("on_train_start", trainer)

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self._reach("on_train_batch_start", trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self._reach("on_train_batch_end", trainer)

    def on_validation_start(self, trainer: L.Trainer, *args: Any) -> None:
        self._reach("on_validation_start", trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self._reach("on_validation_batch_end", trainer)

    def on_validation_end(self, trainer: L.Trainer, *args: Any) -> None:
        self._reach("on_validation_end", trainer)

    def on_test_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self._reach("on_test_batch_end", trainer)


class Notes(L.Callback):
    """Writes a line for each step and each finished validation, with what they were about, rank by rank.

    Args:
        file: name of the file; the rank is added to it.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def _write(self, trainer: L.Trainer, *what: object) -> None:
        with Path(f"{self.file}-{trainer.global_rank}").open("a") as file:
            file.write(json.dumps(what) + "\n")

    def on_train_batch_end(self, trainer: L.Trainer, learner: Any, outputs: Any, batch: Any, index: int) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self._write(trainer, "step", trainer.global_step, rate, batch.support.x.double().sum().item())

    def on_validation_end(self, trainer: L.Trainer, *args: Any) -> None:
        if not trainer.sanity_checking:
            self._write(trainer, "validation", trainer.global_step, trainer.callback_metrics["val/loss"].item())


class Slow(L.Callback):
    """Sleeps in every step of one process.

    Args:
        seconds: how long.
        rank: which process.
    """

    def __init__(self, seconds: float, rank: int = 1) -> None:
        self.seconds, self.rank = seconds, rank

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_rank == self.rank:
            time.sleep(self.seconds)


def notes_of(file: Path, rank: int = 0) -> list[Any]:
    """Return what ``Notes`` wrote."""
    return [json.loads(line) for line in Path(f"{file}-{rank}").read_text().splitlines()]


def interrupted(moment: str, step: int, **options: Any) -> dict[str, Any]:
    """Return the configuration of ``Interrupt``."""
    return {
        "class_path": "interruptions.Interrupt",
        "init_args": {"moment": moment, "step": step, **options},
    }
