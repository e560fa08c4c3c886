"""Several optimiser steps on one batch, as PPO takes them."""

from collections.abc import Callable
from typing import Any, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer


class RepeatedSteps(Optimizer):
    """An optimiser that calls the closure and steps several times, which counts as one step.

    Args:
        optimizer: any optimiser that needs no closure of its own.
        times: steps, >= 1.
    """

    def __init__(self, optimizer: Optimizer, times: int) -> None:
        self.optimizer, self.times = optimizer, times
        super().__init__(optimizer.param_groups, {})
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take the steps, each with a gradient of its own."""
        assert closure is not None
        loss = None
        for _ in range(self.times):
            with torch.enable_grad():
                loss = closure()
            self.optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of the optimiser."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        self.optimizer.param_groups, self.optimizer.state = self.param_groups, self.state


def repeated(made: OptimizerLRScheduler, times: int) -> OptimizerLRScheduler:
    """Return what ``configure_optimizers`` returns with the optimiser repeated."""
    if isinstance(made, Optimizer):
        return RepeatedSteps(made, times)
    settings = cast(dict[str, Any], made)
    return cast(OptimizerLRScheduler, {**settings, "optimizer": RepeatedSteps(settings["optimizer"], times)})
