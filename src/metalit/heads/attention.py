"""Attention over the support examples (Vinyals et al. 2016)."""

import torch
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.errors import at_least
from metalit.functional.distances import membership
from metalit.heads.base import Head
from metalit.heads.similarities import Similarity
from metalit.networks.lstm_cell import LSTMCell
from metalit.tasks.precision import full_precision
from metalit.tasks.task_context import uniform_like


class FullContext(nn.Module):
    """Embeds support examples by an LSTM in both directions, and queries by an LSTM that attends to them.

        support, in random order:  g_i = x_i + forward LSTM_i + backward LSTM_i
        query, ``steps`` times:    r = sum_i softmax_i(h . g_i) g_i;    h = LSTM([q, r], h) + q;    from h = 0

    The first look, with h = 0, sees the mean of the support set (Vinyals et al. 2016, equations 3 to 6).

    The order is random in training and in evaluation always the same, but predictions do depend on it.

    Args:
        features: D, length of an embedding, >= 1.
        steps: how often a query looks at the support set, >= 1.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, features: int, steps: int = 5) -> None:
        super().__init__()
        at_least(1, features=features, steps=steps)
        self.steps = steps
        self.there, self.back = LSTMCell(features, features), LSTMCell(features, features)
        self.reader = LSTMCell(2 * features, features)

    def forward(self, support: Labelled, query: Tensor) -> tuple[Labelled, Tensor]:
        """Return both sets embedded in view of the support set.

        Args:
            support: ``x [S, D]`` and labels ``y [S]``; they are returned in another order.
            query: ``[Q, D]``.
        """
        support = self.embed_support(support)
        return support, self.embed_queries(support.x, query)

    def embed_support(self, support: Labelled) -> Labelled:
        """Return the support set ``x [S, D]``, ``y [S]`` after every example has seen the others, in another order."""
        order = uniform_like(torch.zeros_like(support.x[:, 0])).argsort()
        support = Labelled(support.x[order], support.y[order])
        context = support.x + run(self.there, support.x) + run(self.back, support.x.flip(0)).flip(0)
        return Labelled(context, support.y)

    def embed_queries(self, context: Tensor, query: Tensor) -> Tensor:
        """Return queries ``[Q, D]`` after they have looked at the embedded support set ``[S, D]``."""
        hidden, cell = torch.zeros_like(query), torch.zeros_like(query)
        for _ in range(self.steps):
            read = (hidden @ context.T).softmax(dim=-1) @ context
            out, cell = self.reader(torch.cat([query, read], dim=-1), hidden, cell)
            hidden = out + query
        return hidden


def run(lstm: LSTMCell, sequence: Tensor) -> Tensor:
    """Return the outputs ``[S, D]`` of an LSTM over a sequence ``[S, D]``."""
    hidden, cell = torch.zeros_like(sequence[:1]), torch.zeros_like(sequence[:1])
    outputs = []
    for step in sequence.unsqueeze(1):
        hidden, cell = lstm(step, hidden, cell)
        outputs.append(hidden)
    return torch.cat(outputs)


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
