"""How alike two embeddings are."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from metalit.functional.checks import positive
from metalit.functional.distances import cosines, squared_euclidean


class Similarity(nn.Module, ABC):
    """A scaled measure of likeness between embeddings: larger is more alike, and a softmax over it is meant.

    Args:
        scale: what the measure is multiplied by, > 0: the inverse temperature of the softmax.
        learn_scale: whether the scale is meta-learned from there.
    """

    def __init__(self, scale: float = 1.0, learn_scale: bool = False) -> None:
        super().__init__()
        self.scale: Tensor | float = positive("scale", scale)
        if learn_scale:
            self.scale = nn.Parameter(torch.tensor(float(scale)))

    @abstractmethod
    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the unscaled measure ``[n, m]`` of ``[n, D]`` and ``[m, D]``."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ``[n, m]``, the scaled similarity of every pair.

        Args:
            a: ``[n, D]``.
            b: ``[m, D]``.
        """
        return self.scale * self.likeness(a, b)


class SquaredEuclidean(Similarity):
    """The negative squared Euclidean distance, summed over dimensions."""

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return -||a_i - b_j||^2."""
        return -squared_euclidean(a, b)


class Cosine(Similarity):
    """The cosine of the angle between the embeddings, in [-1, 1] times the scale.

    Unscaled it makes a softmax over few classes nearly flat: of 5, no probability can exceed 0.65.
    """

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the cosines."""
        return cosines(a, b)
