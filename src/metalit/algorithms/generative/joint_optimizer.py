"""Several optimisers that step together."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class JointOptimizer(Optimizer):
    """Several optimisers of different parameters as one: a step of it is one of each.

    It counts as one step, has all their groups, and saves all their states, so loss scaling, schedules and
    checkpoints need not know that there are several.

    Args:
        *optimizers: of any kind that needs no closure.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        super().__init__([group for each in optimizers for group in each.param_groups], {})
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Let each take a step, after one call of ``closure`` for all."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for each in self.optimizers:
            each.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the states of all."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Let each work on its part of the groups, and all on one table of states by parameter."""
        groups = iter(self.param_groups)
        for each in self.optimizers:
            each.state = self.state
            each.param_groups = [next(groups) for _ in each.param_groups]
