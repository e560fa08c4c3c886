"""The nearest class mean, after the embeddings are centred and brought to length 1."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.checks import at_least
from metalit.functional.distances import class_means, squared_euclidean
from metalit.functional.precision import full_precision
from metalit.heads.base import Head

Transform = Literal["UN", "L2N", "CL2N"]


class NormalisedClassMean(Head):
    """Compares a query with class means by the squared Euclidean distance, of transformed embeddings.

    Args:
        features: D, length of an embedding, >= 1.
        transform: ``UN`` takes embeddings as they are, ``L2N`` divides each by its length, ``CL2N`` subtracts
            ``centre`` before.

    Attributes:
        centre: ``[D]``, a buffer, zeros until somebody writes it: the mean of all training embeddings is meant.

    Raises:
        ValueError: no features.
    """

    centre: Tensor

    def __init__(self, features: int, transform: Transform = "CL2N") -> None:
        super().__init__()
        at_least(1, features=features)
        self.transform = transform
        self.register_buffer("centre", torch.zeros(features))

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the class means of transformed embeddings, ``[N, D]``."""
        return class_means(self.transformed(support.x), support.y, ways)

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return negative squared distances, ``[Q, N]``."""
        return -squared_euclidean(self.transformed(query), fitted)

    def transformed(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` after the transformation."""
        if self.transform == "UN":
            return x
        return unit_length(x, self.centre if self.transform == "CL2N" else torch.zeros_like(self.centre))


@full_precision
def unit_length(x: Tensor, centre: Tensor) -> Tensor:
    """Return ``[n, D]`` less ``centre`` and brought to length 1."""
    return F.normalize(x - centre, dim=-1)
