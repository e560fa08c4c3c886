"""Whether two examples are of one class, asked of every pair."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.distances import membership
from metalit.functional.precision import full_precision
from metalit.heads.base import Head
from metalit.heads.similarities import Similarity


class Verification(Head):
    """Asks of a query and every support example whether they are of one class, and averages over a class's shots.

    Args:
        similarity: the logit of two embeddings being of one class.
        average: of a class's shots, their ``logits``, or their ``probabilities``, of which the logarithm is returned.
    """

    def __init__(
        self, similarity: Similarity, average: Literal["logits", "probabilities"] = "logits"
    ) -> None:
        super().__init__()
        self.similarity, self.average = similarity, average

    def fit(self, support: Labelled, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support embeddings ``[S, D]``, and which of them is of which class, ``[N, S]`` of 0 and 1."""
        return support.x, membership(support.y, ways, support.x)

    def classify(self, fitted: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        """Return scores ``[Q, N]``; the largest is the prediction."""
        support, members = fitted
        pairs = self.similarity(query, support)
        average = mean_logit if self.average == "logits" else log_mean_probability
        return average(pairs, members)


@full_precision
def mean_logit(pairs: Tensor, members: Tensor) -> Tensor:
    """Return the mean ``[Q, N]`` over the shots of a class, of logits ``[Q, S]``; ``members`` is ``[N, S]``."""
    return pairs @ (members / members.sum(dim=-1, keepdim=True)).mT


@full_precision
def log_mean_probability(pairs: Tensor, members: Tensor) -> Tensor:
    """Return the logarithm ``[Q, N]`` of the mean probability over the shots of a class, from logits ``[Q, S]``."""
    logs = F.logsigmoid(pairs).unsqueeze(-2)
    return logs.masked_fill(members == 0, -torch.inf).logsumexp(dim=-1) - members.sum(dim=-1).log()
