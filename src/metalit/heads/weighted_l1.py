"""A distance whose dimensions have learned weights."""

import torch
from torch import Tensor, nn

from metalit.functional.checks import at_least
from metalit.functional.precision import full_precision
from metalit.heads.similarities import Similarity


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
