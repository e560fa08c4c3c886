"""Networks that turn gradients into fast weights (Munkhdalai and Yu 2017), one coordinate like the other."""

import torch
from torch import Tensor, nn

from metalit.functional.preprocessing import log_and_sign
from metalit.networks.lstm_cell import LSTMCell
from metalit.networks.mlp import MLP

P = 7.0  # of ``log_and_sign``
SMALL = 0.01


class WeightGenerator(nn.Module):
    """A fast weight from one gradient: an MLP with two hidden layers, by which the fast weights are small at first.

    Args:
        hidden: width of the MLP, >= 1.

    Shape:
        gradients of any shape to as many fast weights.
    """

    def __init__(self, hidden: int = 20) -> None:
        super().__init__()
        self.mlp = MLP(2, (hidden, hidden), 1)
        make_small(self.mlp.layers[-1])

    def forward(self, gradient: Tensor) -> Tensor:
        """Return the fast weights."""
        weights: Tensor = self.mlp(log_and_sign(gradient, P)).squeeze(-1)
        return weights


class RecurrentWeightGenerator(nn.Module):
    """A fast weight from several gradients, one after another: an LSTM and a linear layer.

    Args:
        hidden: width of the LSTM, >= 1.

    Shape:
        gradients ``[steps, coordinates]`` to fast weights ``[coordinates]``.
    """

    def __init__(self, hidden: int = 20) -> None:
        super().__init__()
        self.width = hidden
        self.lstm = LSTMCell(2, hidden)
        self.head = nn.Linear(hidden, 1)
        make_small(self.head)

    def forward(self, gradients: Tensor) -> Tensor:
        """Return the fast weights."""
        hidden = cell = gradients.new_zeros(gradients.shape[1], self.width)
        for gradient in gradients:
            hidden, cell = self.lstm(log_and_sign(gradient, P), hidden, cell)
        weights: Tensor = self.head(hidden).squeeze(-1)
        return weights


def make_small(layer: nn.Module) -> None:
    """Let a linear layer begin with outputs near zero."""
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.uniform_(-SMALL, SMALL)
        layer.bias.zero_()
