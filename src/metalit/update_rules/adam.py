"""Adam as an update rule of the inner loop."""

from typing import NamedTuple

import torch
from torch import Tensor

from metalit.errors import check, positive
from metalit.tasks.parameters import Params
from metalit.update_rules.base import UpdateRule


class Moments(NamedTuple):
    """Exponential moving averages of a task's inner gradients.

    Attributes:
        steps: number of inner steps so far.
        first: average gradient, by name; empty if beta1 is 0.
        second: average squared gradient, by name.
    """

    steps: int
    first: Params
    second: Params


class Adam(UpdateRule):
    """Adam (Kingma and Ba 2015) with bias correction; the moments start at zero in every task.

    With g the gradient of inner step t, and for beta1 = 0:

        v <- beta2 v + (1 - beta2) g^2;   theta <- theta - lr g / (sqrt(v / (1 - beta2^t)) + epsilon)

    Args:
        lr: inner learning rate, about how far a parameter moves in one step; > 0.
        beta1: decay rate of the average gradient, in [0, 1); 0 means no momentum, as in Reptile.
        beta2: decay rate of the average squared gradient, in [0, 1).
        epsilon: constant added to the denominator; > 0.

    Raises:
        SettingError: a number is out of its range.
    """

    def __init__(self, lr: float, beta1: float = 0.0, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.lr, self.epsilon = positive("inner_lr", lr), positive("epsilon", epsilon)
        check("beta1", beta1, 0 <= beta1 < 1, "a number in [0, 1)")
        check("beta2", beta2, 0 <= beta2 < 1, "a number in [0, 1)")
        self.beta1, self.beta2 = beta1, beta2

    def init(self, parameters: Params) -> Moments:
        """Return moments of zero."""
        # without momentum the first moment is the gradient itself, so none is stored
        zeros = {name: torch.zeros_like(value) for name, value in parameters.items()}
        return Moments(0, zeros if self.beta1 else {}, zeros)

    def forward(self, gradient: Params, state: Moments, parameters: Params, loss: Tensor) -> tuple[Params, Moments]:
        """Return the parameters and the moments after one step of Adam."""
        steps = state.steps + 1
        first = {name: torch.lerp(gradient[name], value, self.beta1) for name, value in state.first.items()}
        second = {name: torch.lerp(gradient[name].square(), value, self.beta2) for name, value in state.second.items()}
        # divide by 1 - beta^t, since averages that start at zero are too small by that factor
        mean = {name: value / (1 - self.beta1**steps) for name, value in first.items()} or gradient
        root = {name: (value / (1 - self.beta2**steps)).sqrt() for name, value in second.items()}
        moved = {name: value - self.lr * mean[name] / (root[name] + self.epsilon) for name, value in parameters.items()}
        return moved, Moments(steps, first, second)
