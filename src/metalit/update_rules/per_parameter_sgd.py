"""Gradient descent with meta-learned learning rates, one per scalar parameter (Meta-SGD) or per dimension."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metalit.errors import check, positive
from metalit.tasks.parameters import ParameterTable, Params
from metalit.update_rules.base import UpdateRule


class PerParameterSGD(UpdateRule):
    """Gradient descent with meta-learned learning rates: theta - rates * gradient, elementwise.

    The rates are unconstrained: they may become zero, which stops a coordinate, or negative, which reverses it.

    Args:
        rates: initial rates by parameter name, each in the parameter's shape or in one that broadcasts to it.
    """

    def __init__(self, rates: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.rates = ParameterTable(rates)

    def init(self, parameters: Params) -> tuple[()]:
        """Return the empty state; the rule has none."""
        return ()

    def forward(self, gradient: Params, state: tuple[()], parameters: Params, loss: Tensor) -> tuple[Params, tuple[()]]:
        """Return theta - rates * gradient for the parameters given, and the empty state."""
        rates: Params = self.rates()
        return {name: value - rates[name] * gradient[name] for name, value in parameters.items()}, state


def uniform_rates(parameters: Mapping[str, Tensor], inner_lr: float | tuple[float, float]) -> Params:
    """Return an initial rate per scalar parameter: the same for all, or drawn uniformly between bounds.

    Args:
        parameters: the parameters that adapt, by name; only shapes and dtypes are used.
        inner_lr: the rate, or its bounds [low, high]; > 0.

    Raises:
        SettingError: a rate is not positive, or ``low`` exceeds ``high``.
    """
    low, high = (inner_lr, inner_lr) if isinstance(inner_lr, int | float) else inner_lr
    positive("inner_lr", low), positive("inner_lr", high)
    check("inner_lr", [low, high], low <= high, "the lower bound first")
    return {
        name: torch.full_like(value, low) if low == high else torch.empty_like(value).uniform_(low, high)
        for name, value in parameters.items()
    }
