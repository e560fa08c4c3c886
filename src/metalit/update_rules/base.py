"""Update rules of the inner loop, as values: two pure functions ``init`` and ``update``."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from metalit.errors import positive
from metalit.tasks.parameters import Params


class UpdateRule(nn.Module, ABC):
    """How one inner step turns parameters and their gradient into new parameters.

    A module, so that a rule may have meta-learned parameters of its own; ``forward`` is the update.
    """

    @abstractmethod
    def init(self, parameters: Params) -> Any:
        """Return the rule's state before the first step: any nest of tensors and numbers."""

    @abstractmethod
    def forward(self, gradient: Params, state: Any, parameters: Params, loss: Tensor) -> tuple[Params, Any]:
        """Return the parameters and the state after one step.

        Args:
            gradient: of the support loss.
            state: what ``init`` or the last step returned.
            parameters: where the gradient was taken.
            loss: the support loss there, 0-d.
        """


class SGD(UpdateRule):
    """Gradient descent at one fixed rate: theta - lr * gradient.

    Args:
        lr: the inner rate alpha, for a loss that is a *mean* over examples; > 0.

    Raises:
        ValueError: a rate that is not positive.
    """

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = positive("inner_lr", lr)

    def init(self, parameters: Params) -> tuple[()]:
        """Return no state."""
        return ()

    def forward(self, gradient: Params, state: tuple[()], parameters: Params, loss: Tensor) -> tuple[Params, tuple[()]]:
        """Return theta - lr * gradient."""
        return {name: value - self.lr * gradient[name] for name, value in parameters.items()}, state
