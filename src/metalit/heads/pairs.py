"""Pairs of a query and a support example, or a class, judged one by one."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.errors import UserError
from metalit.functional.distances import class_sums, membership
from metalit.heads.base import Head
from metalit.heads.similarities import Similarity
from metalit.tasks.precision import full_precision


class LearnedRelation(Head):
    """Lets a network compare a query's maps with the sum of each class's.

    Args:
        relation: from pairs ``[n, 2 C, H, W]``, class and query along the channels, to logits ``[n]``.
    """

    def __init__(self, relation: nn.Module) -> None:
        super().__init__()
        self.relation = relation

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the sum of each class's maps, ``[N, C, H, W]``.

        Raises:
            ValueError: embeddings that are no maps.
        """
        if support.x.dim() != 4:
            raise UserError(
                f"a relation is between maps [n, C, H, W], but embeddings are {list(support.x.shape)}: "
                "use a network that keeps its maps, such as ConvMaps"
            )
        return class_sums(support.x, support.y, ways)

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the logit of each query's relation to each class, ``[Q, N]``."""
        ways = len(fitted)
        left = fitted.to(query.dtype).unsqueeze(0).expand(len(query), -1, -1, -1, -1)
        right = query.unsqueeze(1).expand(-1, ways, -1, -1, -1)
        pairs = torch.cat([left, right], dim=2).flatten(0, 1)
        return self.relation(pairs).reshape(len(query), ways)  # type: ignore[no-any-return]


class Verification(Head):
    """Asks of a query and every support example whether they are of one class, and averages over a class's shots.

    Args:
        similarity: the logit of two embeddings being of one class.
        average: of a class's shots, their ``logits``, or their ``probabilities``, of which the logarithm is returned.
    """

    def __init__(self, similarity: Similarity, average: Literal["logits", "probabilities"] = "logits") -> None:
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
