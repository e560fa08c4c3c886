"""Gradient descent with a meta-learned rate for every dimension of a vector."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metalit.functional.parameters import ParameterTable, Params
from metalit.functional.update_rules import UpdateRule


class PerDimensionSGD(UpdateRule):
    """Gradient descent at meta-learned rates along the last axis: theta - rates * gradient.

    The rates are free: they may become zero or negative.

    Args:
        rates: (number of dimensions, rate before training) of each parameter that may adapt, by name.
    """

    def __init__(self, rates: Mapping[str, tuple[int, float]]) -> None:
        super().__init__()
        self.rates = ParameterTable(
            {name: torch.full((length,), rate) for name, (length, rate) in rates.items()}
        )

    def init(self, parameters: Params) -> tuple[()]:
        """Return no state."""
        return ()

    def forward(
        self, gradient: Params, state: tuple[()], parameters: Params, loss: Tensor
    ) -> tuple[Params, tuple[()]]:
        """Return theta - rates * gradient, for any of the parameters."""
        rates: Params = self.rates()
        return {name: value - rates[name] * gradient[name] for name, value in parameters.items()}, state
