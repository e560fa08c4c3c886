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

    def forward(self, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Return logits ``[Q, N]``."""
        means = class_means(support.x, support.y, ways)
        return self.similarity(query, self.adaptation(means))  # type: ignore[no-any-return]
