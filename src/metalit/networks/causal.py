"""Causal layers over a sequence (Mishra et al. 2018): temporal convolutions and attention.

Their input is ``[steps + branches, channels]``: a sequence, and alternative next steps that do not see one another
(``metalit.functional.sequence``). Every layer appends its output to its input.
"""

import math

import torch
from torch import Tensor, nn

from metalit.functional.sequence import delayed, visible


class DenseBlock(nn.Module):
    """A gated causal convolution of kernel size 2: what a row says now, and what stood ``dilation`` steps before it.

        out = [x_t, tanh(W_f [x_(t-d), x_t]) * sigmoid(W_g [x_(t-d), x_t])]

    Args:
        channels: of the input, >= 1.
        filters: how many channels are appended, >= 1.
        dilation: d, >= 1.

    Shape:
        ``[steps + branches, channels]`` to ``[steps + branches, channels + filters]``.
    """

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.gates = nn.Linear(2 * channels, 2 * filters)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """Append the gated output."""
        before = delayed(x[:steps], len(x) - steps, self.dilation)
        candidate, gate = self.gates(torch.cat([before, x], dim=-1)).chunk(2, dim=-1)
        return torch.cat([x, candidate.tanh() * gate.sigmoid()], dim=-1)


class TCBlock(nn.Module):
    """Dense blocks with dilations 1, 2, 4, ... until the last step of a sequence sees the first.

    Args:
        channels: of the input, >= 1.
        filters: how many channels each dense block appends, >= 1.
        length: of the longest sequence, >= 1; there are ceil(log2(length)) dense blocks.

    Attributes:
        features: channels of the output.

    Shape:
        ``[steps + branches, channels]`` to ``[steps + branches, features]``.
    """

    def __init__(self, channels: int, filters: int, length: int) -> None:
        super().__init__()
        depth = (length - 1).bit_length()
        self.blocks = nn.ModuleList(DenseBlock(channels + i * filters, filters, 2**i) for i in range(depth))
        self.features = channels + depth * filters

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """Append the output of every dense block."""
        for block in self.blocks:
            x = block(x, steps)
        return x


class AttentionBlock(nn.Module):
    """Scaled dot-product attention of one head to the past and to oneself.

    Args:
        channels: of the input, >= 1.
        key_size: length of keys and queries, >= 1.
        value_size: how many channels are appended, >= 1.

    Attributes:
        features: channels of the output.

    Shape:
        ``[steps + branches, channels]`` to ``[steps + branches, features]``.
    """

    def __init__(self, channels: int, key_size: int, value_size: int) -> None:
        super().__init__()
        self.queries = nn.Linear(channels, key_size)
        self.keys = nn.Linear(channels, key_size, bias=False)  # the softmax would take no notice of one
        self.values = nn.Linear(channels, value_size)
        self.features = channels + value_size

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """Append what was read."""
        return torch.cat([x, self.weights(x, steps) @ self.values(x)], dim=-1)

    def weights(self, x: Tensor, steps: int) -> Tensor:
        """Return how much each row reads of each, ``[rows, rows]``: every row sums to 1."""
        queries, keys = self.queries(x), self.keys(x)
        scores: Tensor = queries @ keys.T / math.sqrt(keys.shape[-1])
        hidden = ~visible(steps, len(x) - steps, x.device)
        return scores.masked_fill(hidden, -math.inf).softmax(dim=-1)


class CausalLayers(nn.Module):
    """Causal layers one after another, and a linear layer on top.

    Args:
        layers: in order.
        outputs: numbers for each row, >= 1.

    Shape:
        ``[steps + branches, channels]`` to ``[steps + branches, outputs]``.
    """

    def __init__(self, layers: list[AttentionBlock | TCBlock], outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(layers[-1].features, outputs)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """Return one output vector for each row."""
        for layer in self.layers:
            x = layer(x, steps)
        outputs: Tensor = self.head(x)
        return outputs
