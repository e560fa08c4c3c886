"""Heads that score pairs of a query and a class, or of a query and a support example."""

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
    """A network that compares a query's feature maps with the summed feature maps of each class (Sung et al. 2018).

    Args:
        relation: maps pairs ``[n, 2 C, H, W]``, class and query concatenated along the channels, to logits ``[n]``.
    """

    honours_masks = True

    def __init__(self, relation: nn.Module) -> None:
        super().__init__()
        self.relation = relation

    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the summed feature maps of each class, ``[N, C, H, W]``.

        Raises:
            UserError: the embeddings are not feature maps.
        """
        if support.x.dim() != 4:
            raise UserError(
                f"a relation is between maps [n, C, H, W], but embeddings are {list(support.x.shape)}: "
                "use a network that keeps its maps, such as ConvMaps"
            )
        # the sum, not the mean, as in the authors' code: a trained model fits one number of shots only
        return class_sums(support.x, support.y, ways, support.mask)

    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the relation logit of each query with each class, ``[Q, N]``."""
        ways = len(fitted)  # an int, unlike the number of queries, which must stay symbolic for torch.export
        # under autocast the class sums are float32, and cat would promote the half-precision queries with them
        left = fitted.to(query.dtype).unsqueeze(0).expand(query.shape[0], -1, -1, -1, -1)
        right = query.unsqueeze(1).expand(-1, ways, -1, -1, -1)
        pairs = torch.cat([left, right], dim=2).flatten(0, 1)
        return self.relation(pairs).reshape(query.shape[0], ways)  # type: ignore[no-any-return]


class Verification(Head):
    """Verification of each pair of a query and a support example, averaged over the shots of a class.

    Args:
        similarity: returns the logit that two embeddings belong to the same class.
        average: what is averaged over the shots of a class: ``logits``, or ``probabilities``, whose log is returned.
    """

    honours_masks = True

    def __init__(self, similarity: Similarity, average: Literal["logits", "probabilities"] = "logits") -> None:
        super().__init__()
        self.similarity, self.average = similarity, average

    def fit(self, support: Labelled, ways: int) -> tuple[Tensor, Tensor]:
        """Return the support embeddings ``[S, D]`` and their one-hot class membership ``[N, S]``."""
        return support.x, membership(support.y, ways, support.x, support.mask)

    def classify(self, fitted: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        """Return scores ``[Q, N]``; the largest is the prediction."""
        # Koch et al. 2015 do not say how to combine several shots, so it is a setting
        support, members = fitted
        pairs = self.similarity(query, support)
        average = mean_logit if self.average == "logits" else log_mean_probability
        return average(pairs, members)


@full_precision
def mean_logit(pairs: Tensor, members: Tensor) -> Tensor:
    """Return logits ``[Q, S]`` averaged over the shots of each class, ``[Q, N]``; ``members`` is ``[N, S]``."""
    return pairs @ (members / members.sum(dim=-1, keepdim=True)).mT


@full_precision
def log_mean_probability(pairs: Tensor, members: Tensor) -> Tensor:
    """Return the log of the mean probability over the shots of each class, ``[Q, N]``, from logits ``[Q, S]``."""
    # log sigmoid and log-sum-exp: the log of a mean of sigmoids is -inf once all of them underflow
    logs = F.logsigmoid(pairs).unsqueeze(-2)
    return logs.masked_fill(members == 0, -torch.inf).logsumexp(dim=-1) - members.sum(dim=-1).log()
