"""A few training steps and an evaluation of a row of the table, on any device, and how two of them differ."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import lightning as L
import torch
from benchmarks.speed.machine import ROOT
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from torch.utils._pytree import tree_map

from metalit import Engine, Episode
from metalit.algorithms import MetaLearner
from metalit.data import EpisodicDataModule

sys.path.append(str(ROOT / "tests"))
from cases import CASES  # the table that the tests run over

STEPS = 3
# Adam would turn the rounding error of a gradient that is zero, as before a batch norm, into a whole step
SGD = partial(torch.optim.SGD, lr=0.003)


class Row(NamedTuple):
    """An algorithm of the table and one of its domains."""

    name: str
    domain: str

    def __str__(self) -> str:
        return f"{self.name}/{self.domain}"


@dataclass(frozen=True)
class Place:
    """Where a row is trained, and how its tasks are mapped."""

    device: torch.device
    engine: Engine = Engine()  # noqa: RUF009  # frozen

    @property
    def trainer(self) -> dict[str, Any]:
        """Return the options that make Lightning train there."""
        index = self.device.index
        return {"accelerator": self.device.type, "devices": 1 if index is None else [index]}


@dataclass(frozen=True)
class Trace:
    """What training leaves behind, as float64 in host memory.

    Attributes:
        losses: of every training step, of the validation in between and of every test episode at every stage.
        gradient: the first step's meta-gradient.
        change: of the parameters by all steps, and of the running statistics.
        predictions: of the test episodes.
    """

    losses: Tensor
    gradient: Tensor
    change: Tensor
    predictions: Tensor


class Witness(L.Callback):
    """Notes the loss of each step and the gradient of the first."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.gradient: Tensor | None = None

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Note the first gradient."""
        if self.gradient is None:
            parameters = list(pl_module.parameters())
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            self.gradient = parameters_to_vector(gradients).clone()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Note the loss."""
        self.losses.append(outputs["loss"].detach())


def rows() -> list[Row]:
    """Return every row: the first domain of each algorithm, then the second domains."""
    domains = {name: list(case.learning) for name, case in CASES.items()}
    most = max(map(len, domains.values()))
    return [Row(name, own[i]) for i in range(most) for name, own in domains.items() if i < len(own)]


def quiet_trainer(place: Place, **options: Any) -> L.Trainer:
    """Return a trainer that writes and prints nothing."""
    plugins = [LightningEnvironment(), *options.pop("plugins", [])]  # whatever cluster this runs on
    return L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        inference_mode=False, use_distributed_sampler=False, log_every_n_steps=1, num_sanity_val_steps=0,
        max_epochs=-1, plugins=plugins, **place.trainer | {"max_steps": STEPS} | options,
    )  # fmt: skip


@contextmanager
def ieee_convolutions() -> Iterator[None]:
    """Compute float32 convolutions in float32; by default cuDNN rounds their inputs to TF32, to 10 bits."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def as_dtype(episode: Episode, dtype: torch.dtype) -> Episode:
    """Return an episode whose floating point numbers have this type."""
    return tree_map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, episode)  # type: ignore[no-any-return]


def make(row: Row, dtype: torch.dtype, **settings: Any) -> tuple[MetaLearner, EpisodicDataModule]:
    """Return a row's learner, the same at each call, and its data, in one floating point type."""
    torch.manual_seed(0)
    case = CASES[row.name]
    learner, data = case.make(row.domain, **{"optimizer": SGD} | settings), case.data(row.domain)
    finish = data.finish
    data.finish = lambda *args: as_dtype(finish(*args), dtype)  # type: ignore[method-assign]
    return learner.to(dtype), data


def train(row: Row, place: Place, dtype: torch.dtype, **options: Any) -> Trace:
    """Train a row for a few steps, with a validation in between, and evaluate it on test episodes."""
    learner, data = make(row, dtype, engine=place.engine)
    torch.seed()  # what is random within a task follows from its key; the generators of two devices differ
    witness, before = Witness(), floats(learner)
    trainer = quiet_trainer(place, callbacks=[witness], **options)
    with ieee_convolutions():
        trainer.fit(learner, data)
        learner.to(place.device).eval()
        episode = tree_map(lambda leaf: leaf.to(place.device), data.episodes("test", 0, 3))
        outcome = learner.evaluate(episode)
    assert witness.gradient is not None
    losses = [*witness.losses, trainer.callback_metrics["val/loss"]]
    return Trace(
        exact(torch.cat([torch.stack([exact(loss) for loss in losses]), exact(outcome.loss).flatten()])),
        exact(witness.gradient),
        floats(learner) - before,
        exact(outcome.predictions),
    )


def floats(learner: MetaLearner) -> Tensor:
    """Return all parameters and running statistics in one vector."""
    return torch.cat([exact(v).flatten() for v in learner.state_dict().values() if v.is_floating_point()])


def exact(values: Tensor) -> Tensor:
    """Return a copy in float64, in host memory."""
    return values.detach().to("cpu", torch.float64, copy=True)


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, in units of the largest number expected; infinite if one is not finite."""
    difference = (found - expected).abs().max() / expected.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    return float(difference.nan_to_num(nan=torch.inf))


def differences(found: Trace, expected: Trace) -> dict[str, float]:
    """Return by how much every part of a trace differs from another."""
    return {name: relative(getattr(found, name), getattr(expected, name)) for name in Trace.__annotations__}
