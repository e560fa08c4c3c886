"""Gradient descent with a meta-learned learning rate per layer and inner step."""

from collections.abc import Mapping

from torch import Tensor

from metalit.errors import check, positive
from metalit.tasks.parameters import ParameterTable, Params
from metalit.update_rules.base import UpdateRule


class PerLayerPerStepSGD(UpdateRule):
    """Gradient descent with a meta-learned learning rate for each parameter tensor and inner step.

    theta_l <- theta_l - rates[l][i] * gradient_l in step i. The rates are unconstrained: they may become zero or
    negative. Steps beyond the last one with its own rates, as in evaluation with more steps, use the last rates.

    Args:
        parameters: the parameters that adapt, by name; only names, dtypes and devices are used.
        lr: initial value of all rates; > 0.
        steps: number of steps with their own rates; >= 1.

    Raises:
        SettingError: the rate is not positive, or ``steps`` is below 1.
    """

    def __init__(self, parameters: Mapping[str, Tensor], lr: float, steps: int) -> None:
        super().__init__()
        check("inner_steps", steps, steps >= 1, "at least 1 to have rates per step")
        positive("inner_lr", lr)
        self.steps = steps
        self.rates = ParameterTable({name: value.detach().new_full((steps,), lr) for name, value in parameters.items()})

    def init(self, parameters: Params) -> int:
        """Return the index of the first step, 0."""
        return 0

    def forward(self, gradient: Params, state: int, parameters: Params, loss: Tensor) -> tuple[Params, int]:
        """Return theta - rates * gradient, with the rates of this step, and the index of the next step."""
        rates: Params = self.rates()
        step = min(state, self.steps - 1)
        return {name: value - rates[name][step] * gradient[name] for name, value in parameters.items()}, state + 1
