"""The meta-optimiser and its schedule, checked before training begins: torch would fail an epoch later."""

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from lightning.pytorch import cli
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim import lr_scheduler as schedules

from metalit.errors import SettingError, UserError, check

MONITOR = "val/loss"  # the metric that a plateau schedule monitors by default


class ReduceLROnPlateau(cli.ReduceLROnPlateau):
    """Reduces the learning rate when a metric has stopped improving: torch's class, with the name of the metric.

    Args:
        optimizer: the optimiser whose learning rate is reduced.
        monitor: the metric, such as ``val/loss`` or ``train/loss``.
        **settings: the settings of torch's class, such as ``factor`` and ``patience``.
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
    """Return the optimiser and its schedule in the form that Lightning's ``configure_optimizers`` returns.

    Args:
        parameters: the parameters to train.
        optimizer: builds the optimiser.
        lr_scheduler: builds its learning-rate schedule; the rate is constant if None.
        interval: whether the schedule advances every ``epoch`` or every ``step``.
        validates_every: epochs between validations; ``ReduceLROnPlateau`` advances once per validation.

    Raises:
        UserError: the learning rate is not finite, the schedule cannot take a step, or it monitors a validation metric
            at every step.
    """
    made = make_optimizer(optimizer, parameters, "optimizer")
    use_fused_kernel(made)
    if lr_scheduler is None:
        return made
    # the trial step would change the learning rate, so it is taken with an optimiser of its own
    check_schedule(lr_scheduler, optimizer(parameters))
    schedule = {"scheduler": (scheduler := lr_scheduler(made)), "interval": interval}
    if isinstance(scheduler, schedules.ReduceLROnPlateau):
        schedule |= what_to_look_at(scheduler, interval, validates_every)
    return {"optimizer": made, "lr_scheduler": schedule}  # type: ignore[return-value]


def what_to_look_at(scheduler: schedules.ReduceLROnPlateau, interval: str, validates_every: int) -> dict[str, Any]:
    """Return which metric Lightning passes to a plateau schedule, and how often.

    Raises:
        SettingError: a validation metric is monitored at every step.
    """
    monitor = getattr(scheduler, "monitor", MONITOR)
    if not monitor.startswith("val/"):
        return {"monitor": monitor}
    if interval == "step":
        expected = f"epoch: ReduceLROnPlateau waits for {monitor}, which is measured once per validation"
        raise SettingError("model.lr_scheduler_interval", interval, expected)
    # between validations the metric does not change, which would count as epochs without improvement
    return {"monitor": monitor, "frequency": validates_every}


def make_optimizer(make: OptimizerCallable, parameters: Sequence[nn.Parameter], option: str) -> Optimizer:
    """Build an optimiser and check its learning rate.

    Args:
        make: builds the optimiser.
        parameters: the parameters to train.
        option: name of the learner's option, for the message.

    Raises:
        UserError: torch refuses the settings.
        SettingError: torch refuses one of them, or the learning rate is not finite, which torch accepts.
    """
    try:
        optimizer = make(parameters)
    except (TypeError, ValueError) as error:
        found = refused_setting(make, parameters)
        if found is None:
            raise UserError(f"model.{option}: {error}") from error
        name, value = found
        raise SettingError(f"model.{option}.{name}", value, f"one that the optimiser takes ({error})") from error
    rate = optimizer.defaults.get("lr", 0.0)
    check(f"model.{option}.lr", rate, math.isfinite(rate), "a finite number")
    return optimizer


def use_fused_kernel(optimizer: Optimizer) -> None:
    """Have an optimiser update all parameters on a CPU in one kernel, if its settings leave that open.

    The weights are equal to rounding, in a third of the time for a small network. Elsewhere torch chooses.
    """
    for group in optimizer.param_groups:
        # ``False`` and ``True`` are choices of the user's, and optimisers without the setting have no such kernel
        is_open = group.get("fused", False) is None and not group.get("foreach") and not group.get("differentiable")
        if is_open and all(each.device.type == "cpu" and each.is_floating_point() for each in group["params"]):
            group["fused"] = True


def refused_setting(make: OptimizerCallable, parameters: Sequence[nn.Parameter]) -> tuple[str, Any] | None:
    """Return name and value of the setting without which the optimiser can be built; None if it is not one alone."""
    if not isinstance(make, partial):
        return None
    for name, value in make.keywords.items():
        others = {other: kept for other, kept in make.keywords.items() if other != name}
        try:
            make.func(*make.args, parameters, **others)
        except (TypeError, ValueError):
            continue
        return name, value
    return None


def check_schedule(make: LRSchedulerCallable, optimizer: Optimizer) -> None:
    """Build a throw-away schedule and take one step of it: torch hardly checks the settings of schedules.

    Raises:
        UserError: the schedule cannot be built, or cannot take a step.
    """
    try:
        schedule = make(optimizer)
        if not isinstance(schedule, schedules.ReduceLROnPlateau):
            # torch warns when the schedule steps before the optimiser has
            with warnings.catch_warnings(action="ignore"):
                schedule.step()
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"model.lr_scheduler cannot take a step ({error}); look at its settings") from error
