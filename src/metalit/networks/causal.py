"""Causal layers over a sequence: temporal convolutions and attention (Mishra et al. 2018).

A layer reads a sequence ``[steps, channels]`` and returns a memory of it. From this memory, ``next_step`` computes the
outputs of any number of alternative next steps ``[branches, channels]``, which do not see one another. Every layer
appends its output to its input.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from metalit.functional.sequence import delayed, past_and_present


class DenseBlock(nn.Module):
    """The paper's dense block: a gated, dilated causal convolution of kernel size 2, appended to its input.

        out = [x_t, tanh(W_f [x_(t-d), x_t]) * sigmoid(W_g [x_(t-d), x_t])]

    Args:
        channels: channels of the input, >= 1.
        filters: channels that the block appends, >= 1.
        dilation: d, >= 1.

    Shape:
        ``[steps, channels]`` to ``[steps, channels + filters]``.
    """

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        # a convolution of kernel size 2 is a linear layer on [x_(t-d), x_t], and this form also takes single steps
        self.gates = nn.Linear(2 * channels, 2 * filters)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sequence with the gated output appended, and the row ``[channels]`` that the next step needs."""
        before = delayed(x, self.dilation)
        return self.gated(before[: len(x)], x), before[len(x)]

    def next_step(self, x: Tensor, memory: Tensor) -> Tensor:
        """Return next steps ``[branches, channels]`` with the gated output appended."""
        return self.gated(memory.expand(x.shape[0], -1), x)

    def gated(self, before: Tensor, x: Tensor) -> Tensor:
        """Return rows with the gated output appended, given the rows ``dilation`` steps before them."""
        candidate, gate = self.gates(torch.cat([before, x], dim=-1)).chunk(2, dim=-1)
        return torch.cat([x, candidate.tanh() * gate.sigmoid()], dim=-1)


class TCBlock(nn.Module):
    """Dense blocks with dilations 1, 2, 4, ..., enough for the last step of a sequence to see the first.

    Args:
        channels: channels of the input, >= 1.
        filters: channels that each dense block appends, >= 1.
        length: length of the longest sequence, >= 1; there are ceil(log2(length)) dense blocks.

    Attributes:
        features: channels of the output.

    Shape:
        ``[steps, channels]`` to ``[steps, features]``.
    """

    def __init__(self, channels: int, filters: int, length: int) -> None:
        super().__init__()
        depth = (length - 1).bit_length()  # ceil(log2(length)) without rounding errors
        self.blocks = nn.ModuleList(DenseBlock(channels + i * filters, filters, 2**i) for i in range(depth))
        self.features = channels + depth * filters

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the sequence with the output of every dense block appended, and the memory of each block."""
        return read_in_turn(self.blocks, x)

    def next_step(self, x: Tensor, memory: list[Tensor]) -> Tensor:
        """Return next steps ``[branches, channels]`` with the output of every dense block appended."""
        return continue_in_turn(self.blocks, x, memory)


class AttentionBlock(nn.Module):
    """Causal scaled dot-product attention with a single head: each step attends to earlier steps and to itself.

    Args:
        channels: channels of the input, >= 1.
        key_size: length of keys and queries, >= 1.
        value_size: channels that the block appends, >= 1.

    Attributes:
        features: channels of the output.

    Shape:
        ``[steps, channels]`` to ``[steps, features]``.
    """

    def __init__(self, channels: int, key_size: int, value_size: int) -> None:
        super().__init__()
        self.queries = nn.Linear(channels, key_size)
        self.keys = nn.Linear(channels, key_size, bias=False)  # the softmax is invariant to a bias of the keys
        self.values = nn.Linear(channels, value_size)
        self.features = channels + value_size

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the sequence with the attention output appended, and its keys and values ``[steps, ...]``."""
        keys, values = self.keys(x), self.values(x)
        # softmax over keys; a softmax over queries, as in a re-implementation, leaves weights that do not sum to one
        hidden = ~past_and_present(len(x), x.device)
        weights = self.scores(x, keys).masked_fill(hidden, -math.inf).softmax(dim=-1)
        return torch.cat([x, weights @ values], dim=-1), (keys, values)

    def next_step(self, x: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """Return next steps ``[branches, channels]`` with their attention output appended."""
        keys, values = memory
        # a branch attends to its own key, not to those of the other branches
        own_keys, own_values = self.keys(x), self.values(x)
        own_scores = (self.queries(x) * own_keys).sum(dim=-1, keepdim=True) / math.sqrt(keys.shape[-1])
        weights = torch.cat([self.scores(x, keys), own_scores], dim=-1).softmax(dim=-1)
        return torch.cat([x, weights[:, :-1] @ values + weights[:, -1:] * own_values], dim=-1)

    def scores(self, x: Tensor, keys: Tensor) -> Tensor:
        """Return the attention logits ``[n, m]`` of rows ``[n, channels]`` for keys ``[m, key_size]``."""
        return self.queries(x) @ keys.T / math.sqrt(keys.shape[-1])  # type: ignore[no-any-return]


class CausalLayers(nn.Module):
    """A stack of causal layers with a linear head.

    Args:
        layers: the layers, from input to output.
        outputs: length of an output, >= 1.

    Shape:
        ``[steps, channels]`` and ``[branches, channels]`` to ``[branches, outputs]``.
    """

    def __init__(self, layers: list[AttentionBlock | TCBlock], outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(layers[-1].features, outputs)

    def forward(self, sequence: Tensor, branches: Tensor) -> Tensor:
        """Return one output vector for each alternative next step."""
        return self.next_step(branches, self.read(sequence))

    def read(self, sequence: Tensor) -> list[Any]:
        """Return each layer's memory of a sequence ``[steps, channels]``."""
        # depends on the support set alone, so it is computed once for all queries of a task
        return read_in_turn(self.layers, sequence)[1]

    def next_step(self, x: Tensor, memory: list[Any]) -> Tensor:
        """Return outputs ``[branches, outputs]`` for next steps ``[branches, channels]``."""
        return self.head(continue_in_turn(self.layers, x, memory))  # type: ignore[no-any-return]


def read_in_turn(layers: nn.ModuleList, x: Tensor) -> tuple[Tensor, list[Any]]:
    """Return the sequence after all layers, and the memory of each layer."""
    memory = []
    for layer in layers:
        x, remembered = layer(x)
        memory.append(remembered)
    return x, memory


def continue_in_turn(layers: nn.ModuleList, x: Tensor, memory: list[Any]) -> Tensor:
    """Return next steps ``[branches, channels]`` after all layers."""
    for layer, remembered in zip(layers, memory, strict=True):
        x = layer.next_step(x, remembered)  # type: ignore[operator]
    return x
