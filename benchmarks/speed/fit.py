"""What a step of the whole ``metalit fit`` costs, against the compiled step alone and against the least of Lightning.

metalit is the command line as a user runs it: ``fit --config configs/sinusoid/maml.yaml`` with its episode stream,
progress lines, loggers, figures and checkpoints. The least of Lightning is ``Trainer(barebones=True)`` around the same
compiled meta-gradient and the same optimiser, on one meta-batch made beforehand. Around a module that adds up one
number it shows what Lightning itself takes: no training with it can take less than that and the bare step. A step here
is 25 tasks on a 40-40 MLP, about the smallest there is: whatever is around it shows most.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from metalit import Episode, MetaLearner
from metalit.cli import MetalitCLI
from metalit.engine import with_gradient

from .own import bare_step
from .race import CLOCKS, Case, Contender, Prepared, Setting, seconds_of

CONFIG = Path(__file__).parents[2] / "configs" / "sinusoid" / "maml.yaml"
WARM_UP, STEPS = 200, 2000  # steps before the clock starts, which compile, and timed steps
BARE, NOTHING, BAREBONES = "bare step", "Lightning around nothing", "barebones Trainer"
FIT, VALIDATED = "metalit fit", "metalit fit with validation"


class Clock(L.Callback):
    """Measures the seconds from step ``first`` to the last, and how much of it evaluation took."""

    def __init__(self, now: Callable[[], float], first: int) -> None:
        self.now, self.first = now, first
        self.start = self.end = self.evaluated = 0.0
        self.evaluation = self.evaluation_start = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Start after the warm-up."""
        if trainer.global_step == self.first:
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
        self.step = learner.settled_engine().compiled_meta_gradient()
        self.trained, self.fixed = learner.meta()
        self.values = {name: parameter.detach() for name, parameter in self.trained.items()}
        self.task = learner.training_task(episode.support, learner.objective, 0)
        self.keys = learner.keys(episode)

    def training_step(self, episode: Episode, batch_idx: int) -> Tensor:
        """Return the meta-loss, which carries its gradient."""
        objective = self.learner.objective
        gradient, loss, _ = self.step(self.task, objective, self.values, self.fixed, self.keys, episode)
        return with_gradient(loss, gradient, self.trained)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the learner's optimiser."""
        return self.learner.optimizer(self.learner.parameters())


class Nothing(L.LightningModule):
    """The least that can be trained: one number."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the number."""
        return self.number.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the plainest optimiser."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def lengths(setting: Setting) -> tuple[int, int]:
    """Return how many steps come before the clock starts, and how many are timed."""
    return (10, 40) if setting.smoke else (WARM_UP, STEPS)


def accelerator(setting: Setting) -> str:
    """Return Lightning's word for the device."""
    return "gpu" if setting.device.type == "cuda" else setting.device.type


def command_line(setting: Setting, max_steps: int, clock: Clock) -> TimedCLI:
    """Run ``metalit fit`` in a folder that is removed afterwards."""
    torch.compiler.reset()
    with tempfile.TemporaryDirectory() as folder, quiet():
        words = ["--config", str(CONFIG), "--run_dir", folder, "--trainer.max_steps", str(max_steps)]
        words += ["--trainer.accelerator", accelerator(setting)]
        words += ["--model.engine.compile", "false"] if setting.smoke else []
        return TimedCLI(["fit", *words], clock)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what a training says out of the table."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def fitted(setting: Setting, validated: bool) -> Prepared:
    """Return a contender whose turn is a whole run of the command line."""

    def turn() -> float:
        first, steps = lengths(setting)
        clock = Clock(CLOCKS[setting.clock], first)
        command_line(setting, first + steps, clock)
        return (clock.end - clock.start - (0.0 if validated else clock.evaluated)) / steps

    return Prepared(turn)


def made(setting: Setting) -> tuple[MetaLearner, Episode]:
    """Return the learner that the command line makes, and a meta-batch."""
    cli = command_line(setting, 1, Clock(CLOCKS[setting.clock], 0))
    episode = cli.datamodule.episodes("train", 0, cli.datamodule.tasks_per_batch)
    return cli.model.to(setting.device), cli.model.transfer_batch_to_device(episode, setting.device, 0)


def barebones(setting: Setting) -> Prepared:
    """Return a contender whose turn is a run of the least of Lightning around the compiled step."""
    learner, episode = made(setting)

    def turn() -> float:
        torch.compiler.reset()
        return seconds_in_lightning(Bare(learner, episode), episode, setting)

    return Prepared(turn)


def around_nothing(setting: Setting) -> Prepared:
    """Return a contender whose turn is a run of the least of Lightning around the least of a module."""
    return Prepared(lambda: seconds_in_lightning(Nothing(), torch.zeros(1), setting))


def seconds_in_lightning(module: L.LightningModule, batch: Any, setting: Setting) -> float:
    """Return the seconds of a step of a module in the least of Lightning."""
    first, steps = lengths(setting)
    clock = Clock(CLOCKS[setting.clock], first)
    options = {"barebones": True, "accelerator": accelerator(setting), "devices": 1, "callbacks": [clock]}
    with quiet():
        L.Trainer(max_steps=first + steps, **options).fit(module, repeat(batch))
    return (clock.end - clock.start) / steps


def alone(setting: Setting) -> Prepared:
    """Return a contender whose turn is the compiled step, without Lightning and the optimiser."""
    learner, episode = made(setting)

    def turn() -> float:
        torch.compiler.reset()  # as all turns do, so that each compiles in its warm-up
        first, steps = lengths(setting)
        step = bare_step(learner, episode)
        seconds_of(step, first, setting)
        return seconds_of(step, steps, setting)

    return Prepared(turn)


def cases() -> list[Case]:
    """Return the one race."""
    contenders = [
        Contender(BARE, alone),
        Contender(NOTHING, around_nothing),
        Contender(BAREBONES, barebones),
        Contender(FIT, partial(fitted, validated=False)),
        Contender(VALIDATED, partial(fitted, validated=True)),
    ]
    compared = [(name, BARE) for name in (NOTHING, BAREBONES, FIT)] + [(name, BAREBONES) for name in (FIT, VALIDATED)]
    return [Case("fit/sine", "fit", contenders, compared, seconds=60)]
