"""The meta-optimiser and its schedule, looked at before training begins: torch would fail an epoch later."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import cli
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim import lr_scheduler as schedules

MONITOR = "val/loss"  # what a plateau is looked for in, if the schedule does not say


class ReduceLROnPlateau(cli.ReduceLROnPlateau):
    """Reduces the rate when a metric has stopped improving: torch's class, with the metric's name.

    Args:
        optimizer: whose rate is reduced.
        monitor: the metric, such as ``val/loss`` or ``train/loss``.
        **settings: torch's, such as ``factor`` and ``patience``.
    """

    def __init__(self, optimizer: Optimizer, monitor: str = MONITOR, **settings: Any) -> None:
        super().__init__(optimizer, monitor, **settings)


def checked_optimizers(
    parameters: Sequence[nn.Parameter],
    optimizer: OptimizerCallable,
    lr_scheduler: LRSchedulerCallable | None,
    interval: str,
    validates_every: int = 1,
) -> OptimizerLRScheduler:
    """Return what Lightning's ``configure_optimizers`` returns.

    Args:
        parameters: what is trained.
        optimizer: makes the optimiser.
        lr_scheduler: makes the schedule of its rate; the rate is constant if not given.
        interval: whether the schedule advances every ``epoch`` or every ``step``.
        validates_every: epochs from one validation to the next, for ``ReduceLROnPlateau``, which looks at each once.

    Raises:
        ValueError: a rate that is not finite, or a schedule that cannot take a step, or one that looks at each step for
            what only a validation measures.
    """
    made = with_finite_rate(optimizer(parameters), "optimizer")
    if lr_scheduler is None:
        return made
    check_schedule(lr_scheduler(optimizer(parameters)))  # of an optimiser that is never used
    schedule = {"scheduler": (scheduler := lr_scheduler(made)), "interval": interval}
    if isinstance(scheduler, schedules.ReduceLROnPlateau):
        schedule |= what_to_look_at(scheduler, interval, validates_every)
    return {"optimizer": made, "lr_scheduler": schedule}  # type: ignore[return-value]


def what_to_look_at(
    scheduler: schedules.ReduceLROnPlateau, interval: str, validates_every: int
) -> dict[str, Any]:
    """Return which metric Lightning gives to a schedule that waits for a plateau, and how often.

    Raises:
        ValueError: a metric of validation at each step.
    """
    monitor = getattr(scheduler, "monitor", MONITOR)
    if not monitor.startswith("val/"):
        return {"monitor": monitor}
    if interval == "step":
        raise ValueError(
            f"lr_scheduler_interval is step, but ReduceLROnPlateau looks at {monitor}, which only a validation "
            "measures: use epoch, or monitor a metric of training"
        )
    return {"monitor": monitor, "frequency": validates_every}


def with_finite_rate(optimizer: Optimizer, name: str) -> Optimizer:
    """Return an optimiser as it is.

    Raises:
        ValueError: its rate is not finite.
    """
    if not math.isfinite(rate := optimizer.defaults.get("lr", 0.0)):
        raise ValueError(f"{name}.lr is {rate}, but must be finite")
    return optimizer


def check_schedule(schedule: Any) -> None:
    """Take a step of a schedule of no other use: torch hardly looks at its settings.

    Raises:
        ValueError: it cannot take one.
    """
    if isinstance(schedule, schedules.ReduceLROnPlateau):
        return
    try:
        with warnings.catch_warnings(action="ignore"):  # there is no step of an optimiser before it
            schedule.step()
    except ArithmeticError as error:
        raise ValueError(
            f"model.lr_scheduler: {type(schedule).__name__} cannot take a step ({error}); look at its settings"
        ) from error
