"""What one step of ``metalit fit`` costs, against the bare minimum of Lightning around the same step.

    python benchmarks/fit_overhead.py

metalit is the command line as a user runs it: ``fit --config configs/sinusoid/maml.yaml``, with its episode stream,
progress bar, loggers, figures and checkpoints (run it in a terminal: elsewhere the bar prints lines instead). The
minimum is ``Trainer(barebones=True)`` around the same compiled meta-gradient and the same optimiser, on one meta-batch
made beforehand. Both run in one process and take turns, so that they share whatever else the machine is doing; a ratio
compares the two of one round. The clock starts after the first steps, which compile. Where other programs compete for
the same cores, ``--clock cpu`` counts the processor time of this process instead of the time that passes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from torch import Tensor

from metalit import Episode, MetaLearner
from metalit.algorithms.task_learner import count_ways
from metalit.cli import MetalitCLI
from metalit.engine import with_gradient

CONFIG = Path(__file__).parent.parent / "configs" / "sinusoid" / "maml.yaml"
WARM_UP = 200  # steps
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Clock(L.Callback):
    """Measures the seconds from step ``WARM_UP`` to the last, and how much of it evaluation took."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.start = self.end = self.evaluated = 0.0
        self.evaluation = self.evaluation_start = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Start after the warm-up."""
        if trainer.global_step == WARM_UP:
            self.start, self.evaluation = self.now(), 0.0

    def on_train_batch_end(self, *args: Any) -> None:
        """Note the latest end of a step: what comes after the last one is not counted."""
        self.end, self.evaluated = self.now(), self.evaluation

    def on_validation_start(self, *args: Any) -> None:
        """Note when evaluation starts."""
        self.evaluation_start = self.now()

    def on_validation_end(self, *args: Any) -> None:
        """Add up evaluation; the checkpoint that follows counts as cost of training."""
        self.evaluation += self.now() - self.evaluation_start


class TimedCLI(MetalitCLI):
    """The command line with a clock on board."""

    def __init__(self, args: Sequence[str], clock: Clock) -> None:
        self.clock = clock
        super().__init__(args)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Return the configured trainer with a clock before the checkpoint callback, which Lightning keeps last."""
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.insert(0, self.clock)  # type: ignore[attr-defined]  # Lightning sets it late
        return trainer


class Bare(L.LightningModule):
    """The learner's compiled meta-gradient and its optimiser, and nothing else."""

    def __init__(self, learner: MetaLearner, episode: Episode) -> None:
        super().__init__()
        self.learner = learner
        self.step = learner.engine.compiled_meta_gradient()
        self.trained, self.fixed = learner.meta()
        self.values = {name: parameter.detach() for name, parameter in self.trained.items()}
        self.task = partial(learner.task, ways=count_ways(episode.support))
        self.keys = learner.keys(episode)

    def training_step(self, episode: Episode, batch_idx: int) -> Tensor:
        """Return the meta-loss, which carries its gradient."""
        objective = self.learner.objective
        gradient, loss, _ = self.step(self.task, objective, self.values, self.fixed, self.keys, episode)
        return with_gradient(loss, gradient, self.trained)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the learner's optimiser."""
        return self.learner.optimizer(self.learner.parameters())


def metalit(steps: int, clock: Clock, *more: str) -> tuple[float, float, TimedCLI]:
    """Run the command line; return seconds per step, without and with evaluation, and what ran."""
    torch.compiler.reset()
    with tempfile.TemporaryDirectory() as run_dir:
        arguments = [
            "--config",
            str(CONFIG),
            "--run_dir",
            run_dir,
            "--trainer.max_steps",
            str(WARM_UP + steps),
        ]
        cli = TimedCLI(["fit", *arguments, *more], clock)
    seconds = clock.end - clock.start
    return (seconds - clock.evaluated) / steps, seconds / steps, cli


def minimum(steps: int, learner: MetaLearner, episode: Episode, clock: Clock) -> float:
    """Run the barebones loop; return seconds per step."""
    torch.compiler.reset()
    trainer = L.Trainer(barebones=True, max_steps=WARM_UP + steps, accelerator="auto", devices=1)
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    trainer.fit(Bare(learner, episode), repeat(episode))
    return (clock.end - clock.start) / steps


def main(args: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--steps", type=int, default=4000, help="timed steps in a turn")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="time that passes, or processor time")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--quick", action="store_true", help="one short round, not compiled: does it run?")
    options = parser.parse_args(args)
    rounds, steps = (1, 50) if options.quick else (options.rounds, options.steps)
    torch.set_num_threads(options.threads)
    now = CLOCKS[options.clock]
    more = ["--model.engine.compile", "false"] if options.quick else []

    rows: dict[str, list[float]] = {}
    for _ in range(rounds):
        training, everything, cli = metalit(steps, Clock(now), *more)
        episode = cli.datamodule.episodes("train", 0, cli.datamodule.tasks_per_batch)
        bare = minimum(steps, cli.model, episode, Clock(now))
        figures = {
            "metalit fit, ms a step": training * 1e3,
            "metalit fit with validation, ms a step": everything * 1e3,
            "barebones, ms a step": bare * 1e3,
            "metalit fit / barebones": training / bare,
            "metalit fit with validation / barebones": everything / bare,
        }
        for name, value in figures.items():
            rows.setdefault(name, []).append(value)
    say(f"{options.threads} thread(s), {rounds} rounds of {steps} steps, {options.clock} time; median (min to max)")
    for name, values in rows.items():
        say(f"{name:42}{median(values):8.3f} ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
