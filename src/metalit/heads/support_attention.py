"""Attention over the support examples."""

from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.distances import membership
from metalit.functional.precision import full_precision
from metalit.heads.base import Head
from metalit.heads.full_context import FullContext
from metalit.heads.similarities import Similarity


class SupportAttention(Head):
    """A query has the labels of the support examples, each as likely as a softmax of the similarities says.

        p(y | q) = sum over support examples i of class y of  softmax_i(similarity(q, x_i))

    Args:
        similarity: what queries and support examples are compared by.
        full_context: embeds both sets in view of the support set before they are compared; left out if not given.
    """

    def __init__(self, similarity: Similarity, full_context: FullContext | None = None) -> None:
        super().__init__()
        self.similarity, self.full_context = similarity, full_context

    def fit(self, support: Labelled, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support embeddings ``[S, D]``, and which of them is of which class, ``[N, S]`` of 0 and 1."""
        if self.full_context is not None:
            support = self.full_context.embed_support(support)
        return support.x, membership(support.y, ways, support.x)

    def classify(self, fitted: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        """Return the logarithms of the probabilities, ``[Q, N]``."""
        support, members = fitted
        if self.full_context is not None:
            query = self.full_context.embed_queries(support, query)
        similarities = self.similarity(query, support)
        return log_class_probabilities(similarities, members.to(similarities.dtype))


@full_precision
def log_class_probabilities(similarities: Tensor, members: Tensor) -> Tensor:
    """Return the logarithm of the attention that each class receives.

    Args:
        similarities: ``[Q, S]``.
        members: which support example is of which class, ``[N, S]`` of 0 and 1.

    Returns:
        ``[Q, N]``; the logarithm of the sum is taken without leaving logarithms, so that nothing underflows.
    """
    attention = similarities.log_softmax(dim=-1).unsqueeze(-2)
    return attention.masked_fill(members == 0, -float("inf")).logsumexp(dim=-1)
