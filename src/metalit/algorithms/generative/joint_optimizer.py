"""Several optimisers that step as one."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class JointOptimizer(Optimizer):
    """Several optimisers of disjoint parameters as one: its step takes one step of each.

    A step counts once, and parameter groups and state are those of all optimisers. Loss scaling, schedules and
    checkpoints therefore treat it like a single optimiser.

    Args:
        *optimizers: optimisers of any kind that needs no closure.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        # no defaults: every group already holds those of its own optimiser
        super().__init__([group for each in optimizers for group in each.param_groups], {})
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Call ``closure`` once, then take a step of each optimiser."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for each in self.optimizers:
            each.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of all optimisers."""
        super().load_state_dict(state_dict)
        # loading replaces groups and state by new objects, which the optimisers would not see
        self._share()

    def _share(self) -> None:
        """Give each optimiser its own parameter groups, and all of them the same state mapping."""
        # the same objects, not copies: a schedule that changes a group here changes it in the optimiser too
        groups = iter(self.param_groups)
        for each in self.optimizers:
            each.state = self.state
            each.param_groups = [next(groups) for _ in each.param_groups]
