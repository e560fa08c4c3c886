"""Similarities of embeddings, which a head is built with; their formulas are in ``functional.distances``."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from metalit.errors import at_least, positive
from metalit.functional.distances import cosines, squared_euclidean
from metalit.tasks.precision import full_precision


class Similarity(nn.Module, ABC):
    """A scaled similarity of embeddings: the larger, the more alike. It serves as a logit.

    Args:
        scale: factor of the similarity, > 0: the inverse temperature of the softmax.
        learn_scale: whether the scale is meta-learned, starting from ``scale``.
    """

    def __init__(self, scale: float = 1.0, learn_scale: bool = False) -> None:
        super().__init__()
        self.scale: Tensor | float = positive("scale", scale)
        if learn_scale:
            self.scale = nn.Parameter(torch.tensor(float(scale)))

    @abstractmethod
    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the unscaled similarity ``[n, m]`` of ``[n, D]`` and ``[m, D]``."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the scaled similarity of every pair, ``[n, m]``.

        Args:
            a: ``[n, D]``.
            b: ``[m, D]``.
        """
        return self.scale * self.likeness(a, b)


class SquaredEuclidean(Similarity):
    """The negative squared Euclidean distance, summed (not averaged) over dimensions."""

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return -||a_i - b_j||^2."""
        return -squared_euclidean(a, b)


class Cosine(Similarity):
    """The cosine of the angle between the embeddings, in [-1, 1] times the scale.

    With a scale of 1 the softmax over a few classes is nearly flat: with 5, no probability can exceed 0.65.
    """

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the cosines."""
        return cosines(a, b)


class WeightedL1(Similarity):
    """A learned bias minus the weighted L1 distance: the logit that two embeddings belong to the same class.

    The weights start at 1/sqrt(D) and the bias at 1; both are unconstrained.

    Args:
        features: D, length of an embedding, >= 1.

    Raises:
        SettingError: ``features`` is below 1.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        at_least(1, features=features)
        self.weight = nn.Parameter(torch.full((features,), features**-0.5))
        # The bias is not in Koch et al. 2015. Without it, non-negative weights could not give a pair more than 1/2.
        self.bias = nn.Parameter(torch.ones(()))

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return bias - sum_j weight_j |a_j - b_j|."""
        return weighted_l1(a, b, self.weight, self.bias)


@full_precision
def weighted_l1(a: Tensor, b: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``bias`` minus the weighted L1 distance of every pair, ``[n, m]``, of ``[n, D]`` and ``[m, D]``."""
    return bias - (a.unsqueeze(-2) - b.unsqueeze(-3)).abs() @ weight
