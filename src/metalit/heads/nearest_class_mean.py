"""The nearest class mean."""

from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.distances import class_means
from metalit.heads.base import Head
from metalit.heads.similarities import Similarity


class NearestClassMean(Head):
    """Compares a query with the mean of each class's support embeddings.

    Args:
        similarity: what the query and the means are compared by.
    """

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    def forward(self, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Return logits ``[Q, N]``."""
        return self.similarity(query, class_means(support.x, support.y, ways))  # type: ignore[no-any-return]
