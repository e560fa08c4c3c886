"""Whether two examples are of one class, asked of every pair."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.distances import class_means, membership
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

    def forward(self, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Return scores ``[Q, N]``; the largest is the prediction."""
        pairs = self.similarity(query, support.x)
        if self.average == "logits":
            return class_means(pairs.mT, support.y, ways).mT
        return log_mean_probability(pairs, support.y, ways)


@full_precision
def log_mean_probability(pairs: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Return the logarithm ``[Q, N]`` of the mean probability over the shots of a class, from logits ``[Q, S]``."""
    logs = F.logsigmoid(pairs).unsqueeze(-2)
    members = membership(labels, ways, pairs)
    return logs.masked_fill(members == 0, -torch.inf).logsumexp(dim=-1) - members.sum(dim=-1).log()
