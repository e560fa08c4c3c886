"""Gradient descent with a meta-learned rate for every layer and every inner step."""

from collections.abc import Mapping

from torch import Tensor

from metalit.errors import check, positive
from metalit.tasks.parameters import ParameterTable, Params
from metalit.update_rules.base import UpdateRule


class PerLayerPerStepSGD(UpdateRule):
    """Gradient descent at one meta-learned rate for each tensor of parameters in each inner step.

    theta_l <- theta_l - rates[l][i] * gradient_l in step i. The rates are free: they may become zero or negative. Steps
    beyond those that have rates, as in a longer test, take the rates of the last.

    Args:
        parameters: what will adapt, by name; only shapes and types are used.
        lr: all rates before training; > 0.
        steps: how many steps have rates of their own; at least 1.

    Raises:
        ValueError: a rate that is not positive, or no step.
    """

    def __init__(self, parameters: Mapping[str, Tensor], lr: float, steps: int) -> None:
        super().__init__()
        check("inner_steps", steps, steps >= 1, "at least 1 to have rates per step")
        positive("inner_lr", lr)
        self.steps = steps
        self.rates = ParameterTable({name: value.detach().new_full((steps,), lr) for name, value in parameters.items()})

    def init(self, parameters: Params) -> int:
        """Return the number of the first step, 0."""
        return 0

    def forward(self, gradient: Params, state: int, parameters: Params, loss: Tensor) -> tuple[Params, int]:
        """Return theta - rates * gradient, and the number of the next step."""
        rates: Params = self.rates()
        step = min(state, self.steps - 1)
        return {name: value - rates[name][step] * gradient[name] for name, value in parameters.items()}, state + 1
