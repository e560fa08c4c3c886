"""Embeddings in view of the whole support set (Vinyals et al. 2016, section 2.1.2 and appendix A)."""

import torch
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.functional.checks import at_least
from metalit.functional.task_context import uniform_like
from metalit.networks.lstm_cell import LSTMCell


class FullContext(nn.Module):
    """Embeds support examples by an LSTM in both directions, and queries by an LSTM that attends to them.

        support, in random order:  g_i = x_i + forward LSTM_i + backward LSTM_i
        query, ``steps`` times:    h = LSTM([q, r], h) + q;    r = sum_i softmax_i(h . g_i) g_i

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
        """Return both sets embedded anew.

        Args:
            support: ``x [S, D]`` and labels ``y [S]``; what is returned is in another order.
            query: ``[Q, D]``.
        """
        order = uniform_like(torch.zeros_like(support.x[:, 0])).argsort()
        support = Labelled(support.x[order], support.y[order])
        context = support.x + run(self.there, support.x) + run(self.back, support.x.flip(0)).flip(0)
        return Labelled(context, support.y), self.read(context, query)

    def read(self, context: Tensor, query: Tensor) -> Tensor:
        """Return queries ``[Q, D]`` after they have looked at the support set ``[S, D]``."""
        hidden, cell, read = (torch.zeros_like(query) for _ in range(3))
        for _ in range(self.steps):
            out, cell = self.reader(torch.cat([query, read], dim=-1), hidden, cell)
            hidden = out + query
            read = (hidden @ context.T).softmax(dim=-1) @ context
        return hidden


def run(lstm: LSTMCell, sequence: Tensor) -> Tensor:
    """Return the outputs ``[S, D]`` of an LSTM over a sequence ``[S, D]``."""
    hidden, cell = torch.zeros_like(sequence[:1]), torch.zeros_like(sequence[:1])
    outputs = []
    for step in sequence.unsqueeze(1):
        hidden, cell = lstm(step, hidden, cell)
        outputs.append(hidden)
    return torch.cat(outputs)
