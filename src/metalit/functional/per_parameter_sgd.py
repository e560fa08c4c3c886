"""Gradient descent with a meta-learned rate for every single parameter."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metalit.functional.parameters import ParameterTable, Params
from metalit.functional.update_rules import UpdateRule, positive


class PerParameterSGD(UpdateRule):
    """Gradient descent at meta-learned rates in the shape of the parameters: theta - rates * gradient, elementwise.

    The rates are free: they may become zero or negative, and so turn a direction off or around.

    Args:
        parameters: what will adapt, by name; only shapes and types are used.
        low: least initial rate; > 0.
        high: greatest initial rate, >= ``low``; initial rates are uniform between the two, and constant if these
            are equal.

    Raises:
        ValueError: a rate that is not positive, or ``low`` above ``high``.
    """

    def __init__(self, parameters: Mapping[str, Tensor], low: float, high: float) -> None:
        super().__init__()
        positive("inner_lr", low), positive("inner_lr", high)
        if low > high:
            raise ValueError(f"inner_lr is [{low}, {high}], but the lower bound must come first")
        self.rates = ParameterTable(
            {
                name: torch.full_like(value, low)
                if low == high
                else torch.empty_like(value).uniform_(low, high)
                for name, value in parameters.items()
            }
        )

    def init(self, parameters: Params) -> tuple[()]:
        """Return no state."""
        return ()

    def forward(
        self, gradient: Params, state: tuple[()], parameters: Params, loss: Tensor
    ) -> tuple[Params, tuple[()]]:
        """Return theta - rates * gradient."""
        rates: Params = self.rates()
        return {name: value - rates[name] * gradient[name] for name, value in parameters.items()}, state
