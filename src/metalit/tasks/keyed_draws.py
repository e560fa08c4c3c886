"""Random numbers of a batch of tasks, drawn by their keys outside of any network."""

import math

import torch
from torch import Tensor

from metalit.tasks.random_bits import random_bits


class KeyedDraws:
    """A sequence of random draws for each task of a batch, a pure function of the tasks' keys.

    Args:
        keys: ``[B]`` int64, one key per task.
        dtype: of the numbers.
    """

    def __init__(self, keys: Tensor, dtype: torch.dtype) -> None:
        self.keys, self.dtype, self.draws = keys, dtype, 0

    def integers(self, *shape: int) -> Tensor:
        """Return integers uniform in [0, 2^32), int64 ``[B, *shape]``."""
        bits: Tensor = random_bits(self.keys, self.draws, math.prod(shape))
        self.draws += 1
        return bits.reshape(len(self.keys), *shape)

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers uniform in (0, 1), ``[B, *shape]``."""
        # + 0.5 excludes 0, since the logarithm may be taken
        return ((self.integers(*shape).double() + 0.5) / 2**32).to(self.dtype)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, ``[B, *shape]`` (Box and Muller 1958)."""
        radius, angle = self.uniform(*shape), self.uniform(*shape)
        return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()

    def categorical(self, logits: Tensor) -> Tensor:
        """Return classes drawn with the probabilities of ``logits [B, ..., classes]``, int64 ``[B, ...]``."""
        noise = -(-self.uniform(*logits.shape[1:]).log()).log()
        return (logits + noise).argmax(dim=-1)  # the Gumbel-max trick
