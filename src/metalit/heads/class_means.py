"""Heads that compare queries with class means (prototypes)."""

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
        similarity: compares queries with class means.
    """

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the class means, ``[N, D]``."""
        return class_means(support.x, support.y, ways)

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the similarity to each class mean, ``[Q, N]``."""
        return self.similarity(query, fitted)  # type: ignore[no-any-return]


Transform = Literal["UN", "L2N", "CL2N"]


class NormalisedClassMean(Head):
    """The nearest class mean of SimpleShot: transformed embeddings and the squared Euclidean distance.

    Args:
        features: D, length of an embedding, >= 1.
        transform: ``UN`` leaves embeddings unchanged, ``L2N`` scales each to unit length, ``CL2N`` subtracts
            ``centre`` and then scales to unit length.

    Attributes:
        centre: ``[D]``, a buffer of zeros that the method has to fill with the mean of all training embeddings.

    Raises:
        SettingError: ``features`` is below 1.
    """

    centre: Tensor

    def __init__(self, features: int, transform: Transform = "CL2N") -> None:
        super().__init__()
        at_least(1, features=features)
        self.transform = transform
        # a buffer, so that it is saved with the model; SimpleShot keeps a running mean here, the authors' code computes
        # the mean after training
        self.register_buffer("centre", torch.zeros(features))

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the class means of the transformed embeddings, ``[N, D]``."""
        # the means are not normalised again, only the embeddings they average
        return class_means(self.transformed(support.x), support.y, ways)

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return negative squared distances, ``[Q, N]``."""
        return -squared_euclidean(self.transformed(query), fitted)

    def transformed(self, x: Tensor) -> Tensor:
        """Return the transformed embeddings ``[n, D]``."""
        if self.transform == "UN":
            return x
        return unit_length(x, self.centre if self.transform == "CL2N" else torch.zeros_like(self.centre))


@full_precision
def unit_length(x: Tensor, centre: Tensor) -> Tensor:
    """Return ``[n, D]`` minus ``centre``, scaled to unit length."""
    return F.normalize(x - centre, dim=-1)


class AdaptedClassMeans(Head):
    """Compares a query with class means that a set-to-set network has adapted to the task.

    Args:
        adaptation: maps a set ``[N, D]`` to a set ``[N, D]``, e.g. ``SetAttention``.
        similarity: compares queries with adapted class means.
    """

    def __init__(self, adaptation: nn.Module, similarity: Similarity) -> None:
        super().__init__()
        self.adaptation, self.similarity = adaptation, similarity

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the adapted class means, ``[N, D]``."""
        return self.adaptation(class_means(support.x, support.y, ways))  # type: ignore[no-any-return]

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the similarity to each adapted class mean, ``[Q, N]``."""
        # Queries are not adapted (as in the authors' code), so a prediction does not depend on the other queries.
        return self.similarity(query, fitted)  # type: ignore[no-any-return]
