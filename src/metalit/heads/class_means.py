"""Heads that compare queries with class means (prototypes)."""

from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.functional.distances import class_means
from metalit.heads.base import Head
from metalit.heads.similarities import Similarity


class NearestClassMean(Head):
    """Compares a query with the mean of each class's support embeddings.

    Args:
        similarity: compares queries with class means.
    """

    honours_masks = True

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the class means, ``[N, D]``."""
        return class_means(support.x, support.y, ways, support.mask)

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the similarity to each class mean, ``[Q, N]``."""
        return self.similarity(query, fitted)  # type: ignore[no-any-return]


class AdaptedClassMeans(Head):
    """Compares a query with class means that a set-to-set network has adapted to the task.

    Args:
        adaptation: maps a set ``[N, D]`` to a set ``[N, D]``, e.g. ``SetAttention``.
        similarity: compares queries with adapted class means.
    """

    honours_masks = True

    def __init__(self, adaptation: nn.Module, similarity: Similarity) -> None:
        super().__init__()
        self.adaptation, self.similarity = adaptation, similarity

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the adapted class means, ``[N, D]``."""
        return self.adaptation(class_means(support.x, support.y, ways, support.mask))  # type: ignore[no-any-return]

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the similarity to each adapted class mean, ``[Q, N]``."""
        # Queries are not adapted (as in the authors' code), so a prediction does not depend on the other queries.
        return self.similarity(query, fitted)  # type: ignore[no-any-return]
