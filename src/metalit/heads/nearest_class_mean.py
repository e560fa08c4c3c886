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

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the class means, ``[N, D]``."""
        return class_means(support.x, support.y, ways)

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the similarity to each mean, ``[Q, N]``."""
        return self.similarity(query, fitted)  # type: ignore[no-any-return]
