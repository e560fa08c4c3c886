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

from metalit.errors import SettingError, UserError, check

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
    made = make_optimizer(optimizer, parameters, "optimizer")
    if lr_scheduler is None:
        return made
    check_schedule(lr_scheduler, optimizer(parameters))  # an optimiser that is never used
    schedule = {"scheduler": (scheduler := lr_scheduler(made)), "interval": interval}
    if isinstance(scheduler, schedules.ReduceLROnPlateau):
        schedule |= what_to_look_at(scheduler, interval, validates_every)
    return {"optimizer": made, "lr_scheduler": schedule}  # type: ignore[return-value]


def what_to_look_at(scheduler: schedules.ReduceLROnPlateau, interval: str, validates_every: int) -> dict[str, Any]:
    """Return which metric Lightning gives to a schedule that waits for a plateau, and how often.

    Raises:
        ValueError: a metric of validation at each step.
    """
    monitor = getattr(scheduler, "monitor", MONITOR)
    if not monitor.startswith("val/"):
        return {"monitor": monitor}
    if interval == "step":
        expected = f"epoch, for only a validation measures {monitor}, which ReduceLROnPlateau waits for"
        raise SettingError("model.lr_scheduler_interval", interval, expected)
    return {"monitor": monitor, "frequency": validates_every}


def make_optimizer(make: OptimizerCallable, parameters: Sequence[nn.Parameter], option: str) -> Optimizer:
    """Return an optimiser.

    Args:
        make: makes it.
        parameters: what is trained.
        option: of the learner, for the message.

    Raises:
        UserError: torch refuses its settings.
        SettingError: its rate is not finite, which torch takes.
    """
    try:
        optimizer = make(parameters)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.{option}: {error}") from error
    rate = optimizer.defaults.get("lr", 0.0)
    check(f"model.{option}.lr", rate, math.isfinite(rate), "a finite number")
    return optimizer


def check_schedule(make: LRSchedulerCallable, optimizer: Optimizer) -> None:
    """Make a schedule of no other use, and take a step of it: torch hardly looks at its settings.

    Raises:
        UserError: it cannot be made, or cannot take a step.
    """
    try:
        schedule = make(optimizer)
        if not isinstance(schedule, schedules.ReduceLROnPlateau):
            with warnings.catch_warnings(action="ignore"):  # there is no step of an optimiser before it
                schedule.step()
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"model.lr_scheduler cannot take a step ({error}); look at its settings") from error
