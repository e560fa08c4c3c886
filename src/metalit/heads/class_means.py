"""Class means, and what queries are compared with them by."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.errors import at_least
from metalit.functional.distances import class_means, squared_euclidean
from metalit.heads.base import Head
from metalit.heads.similarities import Similarity
from metalit.tasks.precision import full_precision


class NearestClassMean(Head):
    """Compares a query with the mean of each class's support embeddings.

    Args:
        similarity: what the query and the means are compared by.
    """

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the class means, ``[N, D]``."""
        return class_means(support.x, support.y, ways)

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the similarity to each mean, ``[Q, N]``."""
        return self.similarity(query, fitted)  # type: ignore[no-any-return]


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


class AdaptedClassMeans(Head):
    """Compares a query with class means that a network has adapted to one another.

    Args:
        adaptation: from a set ``[N, D]`` to a set ``[N, D]``, such as ``SetAttention``.
        similarity: what queries and adapted means are compared by.
    """

    def __init__(self, adaptation: nn.Module, similarity: Similarity) -> None:
        super().__init__()
        self.adaptation, self.similarity = adaptation, similarity

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the adapted class means, ``[N, D]``."""
        return self.adaptation(class_means(support.x, support.y, ways))  # type: ignore[no-any-return]

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the similarity to each adapted mean, ``[Q, N]``."""
        return self.similarity(query, fitted)  # type: ignore[no-any-return]
