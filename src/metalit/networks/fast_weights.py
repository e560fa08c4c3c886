"""Networks that map gradients to fast weights coordinate by coordinate (Munkhdalai and Yu 2017)."""

import torch
from torch import Tensor, nn

from metalit.functional.preprocessing import log_and_sign
from metalit.networks.lstm_cell import LSTMCell
from metalit.networks.mlp import MLP

P = 7.0  # p of ``log_and_sign``, as in the authors' code
SMALL = 0.01  # bound of a generator's initial output weights


class WeightGenerator(nn.Module):
    """An MLP with two hidden layers that maps each coordinate of one gradient to a fast weight.

    Args:
        hidden: width of the MLP, >= 1.

    Shape:
        gradients of any shape to fast weights of the same shape.
    """

    def __init__(self, hidden: int = 20) -> None:
        super().__init__()
        self.mlp = MLP(2, (hidden, hidden), 1)
        make_small(self.mlp.layers[-1])

    def forward(self, gradient: Tensor) -> Tensor:
        """Return fast weights in the shape of the gradient."""
        # gradients differ by orders of magnitude: log and sign are inputs of order 1
        weights: Tensor = self.mlp(log_and_sign(gradient, P)).squeeze(-1)
        return weights


class RecurrentWeightGenerator(nn.Module):
    """An LSTM with a linear layer that maps each coordinate of a sequence of gradients to a fast weight.

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
        """Return fast weights ``[coordinates]``."""
        # coordinates are the LSTM's batch: each has a state of its own, all share the weights
        hidden = cell = gradients.new_zeros(gradients.shape[1], self.width)
        for gradient in gradients:
            hidden, cell = self.lstm(log_and_sign(gradient, P), hidden, cell)
        weights: Tensor = self.head(hidden).squeeze(-1)
        return weights


def make_small(layer: nn.Module) -> None:
    """Initialise a linear layer with outputs near zero."""
    # fast weights start small, so that the slow path prevails at first
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.uniform_(-SMALL, SMALL)
        layer.bias.zero_()
