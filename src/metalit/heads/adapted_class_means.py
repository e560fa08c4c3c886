"""Class means that see one another before queries are compared with them."""

from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.functional.distances import class_means
from metalit.heads.base import Head
from metalit.heads.similarities import Similarity


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
