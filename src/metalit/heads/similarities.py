"""How alike two embeddings are."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from metalit.errors import at_least, positive
from metalit.functional.distances import cosines, squared_euclidean
from metalit.tasks.precision import full_precision


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


class WeightedL1(Similarity):
    """A learned number less the weighted sum of absolute differences: a logit of two embeddings being of one class.

    Weights begin at 1/sqrt(D), the number at 1; both are free.

    Args:
        features: D, length of an embedding, >= 1.

    Raises:
        ValueError: no features.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        at_least(1, features=features)
        self.weight = nn.Parameter(torch.full((features,), features**-0.5))
        self.bias = nn.Parameter(torch.ones(()))

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return bias - sum_j weight_j |a_j - b_j|."""
        return weighted_l1(a, b, self.weight, self.bias)


@full_precision
def weighted_l1(a: Tensor, b: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``[n, m]`` of ``[n, D]`` and ``[m, D]``."""
    return bias - (a.unsqueeze(-2) - b.unsqueeze(-3)).abs() @ weight
