"""Attention over the support examples, as in matching networks (Vinyals et al. 2016)."""

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
    """Full-context embeddings: support and query embeddings that depend on the whole support set.

        support, in random order:  g_i = x_i + forward LSTM_i + backward LSTM_i
        query, ``steps`` times:    r = sum_i softmax_i(h . g_i) g_i;    h = LSTM([q, r], h) + q;    from h = 0

    With h = 0, the first read returns the mean of the support set (Vinyals et al. 2016, equations 3 to 6).

    The support set is read in a random order in training and in a fixed one in evaluation. Predictions depend on it.

    Args:
        features: D, length of an embedding, >= 1.
        steps: how many times a query attends to the support set, >= 1.

    Raises:
        SettingError: a number is below 1.
    """

    def __init__(self, features: int, steps: int = 5) -> None:
        super().__init__()
        at_least(1, features=features, steps=steps)
        self.steps = steps
        self.there, self.back = LSTMCell(features, features), LSTMCell(features, features)
        # its input is [q, r]: the query's embedding and the last read
        self.reader = LSTMCell(2 * features, features)

    def forward(self, support: Labelled, query: Tensor) -> tuple[Labelled, Tensor]:
        """Return the full-context embeddings of both sets.

        Args:
            support: ``x [S, D]`` and labels ``y [S]``, returned in the order in which they were read.
            query: ``[Q, D]``.
        """
        support = self.embed_support(support)
        return support, self.embed_queries(support.x, query)

    def embed_support(self, support: Labelled) -> Labelled:
        """Return the full-context support set ``x [S, D]``, ``y [S]``, in the order in which it was read."""
        # An episode holds its support set sorted by class, so in that order the LSTMs could tell a class by position.
        # The order is drawn by the task's key, so it does not depend on how tasks are mapped, nor on a resume.
        order = uniform_like(torch.zeros_like(support.x[:, 0])).argsort()
        support = support._replace(x=support.x[order], y=support.y[order])
        # the backward LSTM reads from the end; its outputs are flipped back so that they line up with the examples
        context = support.x + run(self.there, support.x) + run(self.back, support.x.flip(0)).flip(0)
        return support._replace(x=context)

    def embed_queries(self, context: Tensor, query: Tensor) -> Tensor:
        """Return the full-context queries ``[Q, D]``, which attend to the embedded support set ``[S, D]``."""
        hidden, cell = torch.zeros_like(query), torch.zeros_like(query)
        for _ in range(self.steps):
            read = (hidden @ context.T).softmax(dim=-1) @ context
            out, cell = self.reader(torch.cat([query, read], dim=-1), hidden, cell)
            hidden = out + query
        return hidden


def run(lstm: LSTMCell, sequence: Tensor) -> Tensor:
    """Return the outputs ``[S, D]`` of an LSTM over a sequence ``[S, D]``."""
    # a loop over a cell of linear layers: torch's fused LSTM kernels cannot be vectorised over tasks
    hidden, cell = torch.zeros_like(sequence[:1]), torch.zeros_like(sequence[:1])
    outputs = []
    for step in sequence.unsqueeze(1):
        hidden, cell = lstm(step, hidden, cell)
        outputs.append(hidden)
    return torch.cat(outputs)


class SupportAttention(Head):
    """Attention of a query over the support examples; a class's probability is the attention on its examples.

        p(y | q) = sum over support examples i of class y of  softmax_i(similarity(q, x_i))

    Args:
        similarity: compares queries with support examples.
        full_context: turns both sets into full-context embeddings before they are compared; omitted if not given.
    """

    def __init__(self, similarity: Similarity, full_context: FullContext | None = None) -> None:
        super().__init__()
        self.similarity, self.full_context = similarity, full_context
        self.honours_masks = full_context is None  # the LSTMs read the support set to its end

    def fit(self, support: Labelled, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support embeddings ``[S, D]`` and their one-hot class membership ``[N, S]``."""
        if self.full_context is not None:
            support = self.full_context.embed_support(support)
        return support.x, membership(support.y, ways, support.x, support.mask)

    def classify(self, fitted: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        """Return log-probabilities ``[Q, N]``, which serve as logits."""
        support, members = fitted
        if self.full_context is not None:
            query = self.full_context.embed_queries(support, query)
        similarities = self.similarity(query, support)
        return log_class_probabilities(similarities, members.to(similarities.dtype))


@full_precision
def log_class_probabilities(similarities: Tensor, members: Tensor) -> Tensor:
    """Return the log of the attention that each class receives.

    Args:
        similarities: ``[Q, S]``.
        members: one-hot class membership of the support examples, ``[N, S]``; zeros for padding.

    Returns:
        ``[Q, N]``, computed by log-sum-exp so that the attention on distant examples does not underflow.
    """
    # an example of no class is padding
    real = members.any(dim=0)
    attention = similarities.masked_fill(~real, -float("inf")).log_softmax(dim=-1).unsqueeze(-2)
    return attention.masked_fill(members == 0, -float("inf")).logsumexp(dim=-1)
