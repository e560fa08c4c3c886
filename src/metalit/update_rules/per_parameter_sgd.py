"""Gradient descent with meta-learned rates, one for every single parameter or for every dimension."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metalit.errors import check, positive
from metalit.tasks.parameters import ParameterTable, Params
from metalit.update_rules.base import UpdateRule


class PerParameterSGD(UpdateRule):
    """Gradient descent at meta-learned rates: theta - rates * gradient, elementwise.

    The rates are free: they may become zero or negative, and so turn a direction off or around.

    Args:
        rates: the rates before training of whatever may adapt, by name, in its shape or one that broadcasts to it.
    """

    def __init__(self, rates: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.rates = ParameterTable(rates)

    def init(self, parameters: Params) -> tuple[()]:
        """Return no state."""
        return ()

    def forward(self, gradient: Params, state: tuple[()], parameters: Params, loss: Tensor) -> tuple[Params, tuple[()]]:
        """Return theta - rates * gradient, for any of what may adapt."""
        rates: Params = self.rates()
        return {name: value - rates[name] * gradient[name] for name, value in parameters.items()}, state


def uniform_rates(parameters: Mapping[str, Tensor], low: float, high: float) -> Params:
    """Return a rate for every single parameter, uniform between two numbers, or constant if these are equal.

    Args:
        parameters: what will adapt, by name; only shapes and types are used.
        low: least rate; > 0.
        high: greatest rate, >= ``low``.

    Raises:
        ValueError: a rate that is not positive, or ``low`` above ``high``.
    """
    positive("inner_lr", low), positive("inner_lr", high)
    check("inner_lr", [low, high], low <= high, "the lower bound first")
    return {
        name: torch.full_like(value, low) if low == high else torch.empty_like(value).uniform_(low, high)
        for name, value in parameters.items()
    }
