"""The interface of update rules, two pure functions ``init`` and ``forward``, and plain gradient descent."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from metalit.errors import positive
from metalit.tasks.parameters import Params


class UpdateRule(nn.Module, ABC):
    """A rule that maps parameters and their gradient to the parameters after one inner step.

    It is a module, so that it may have meta-learned parameters; ``forward`` is the update. Its state is passed in and
    returned, never stored, since many tasks use one rule at the same time.
    """

    @abstractmethod
    def init(self, parameters: Params) -> Any:
        """Return the state before the first inner step: any pytree of tensors and numbers."""

    @abstractmethod
    def forward(self, gradient: Params, state: Any, parameters: Params, loss: Tensor) -> tuple[Params, Any]:
        """Return the parameters and the state after one inner step.

        Args:
            gradient: gradient of the support loss, by name.
            state: the state returned by ``init`` or by the previous step.
            parameters: the parameters at which the gradient was taken, by name.
            loss: the support loss at these parameters, 0-d.
        """


class SGD(UpdateRule):
    """Gradient descent with one fixed learning rate: theta - lr * gradient.

    Args:
        lr: inner learning rate alpha, for a loss that is a *mean* over examples; > 0.

    Raises:
        SettingError: the rate is not positive.
    """

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = positive("inner_lr", lr)  # the name under which an algorithm's user sets it

    def init(self, parameters: Params) -> tuple[()]:
        """Return the empty state; gradient descent has none."""
        return ()

    def forward(self, gradient: Params, state: tuple[()], parameters: Params, loss: Tensor) -> tuple[Params, tuple[()]]:
        """Return theta - lr * gradient, and the empty state."""
        # a sum lies in memory as its first term does; the kernels of convolutions want weights as their gradients lie
        return {name: -self.lr * gradient[name] + value for name, value in parameters.items()}, state
