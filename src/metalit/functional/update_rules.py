"""Update rules of the inner loop, as values: two pure functions ``init`` and ``update``."""

import math
from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from metalit.functional.parameters import Params


class UpdateRule(nn.Module, ABC):
    """How one inner step turns parameters and their gradient into new parameters.

    A module, so that a rule may have meta-learned parameters of its own; ``forward`` is the update.
    """

    @abstractmethod
    def init(self, parameters: Params) -> Any:
        """Return the rule's state before the first step."""

    @abstractmethod
    def forward(self, gradient: Params, state: Any, parameters: Params) -> tuple[Params, Any]:
        """Return the parameters and the state after one step."""


class SGD(UpdateRule):
    """Gradient descent at one fixed rate: theta - lr * gradient.

    Args:
        lr: the inner rate alpha, for a loss that is a *mean* over examples; > 0.

    Raises:
        ValueError: a rate that is not positive.
    """

    def __init__(self, lr: float) -> None:
        super().__init__()
        if not 0 < lr < math.inf:
            raise ValueError(f"inner_lr is {lr}, but must be positive and finite")
        self.lr = lr

    def init(self, parameters: Params) -> tuple[()]:
        """Return no state."""
        return ()

    def forward(self, gradient: Params, state: tuple[()], parameters: Params) -> tuple[Params, tuple[()]]:
        """Return theta - lr * gradient."""
        return {name: value - self.lr * gradient[name] for name, value in parameters.items()}, state
