"""A comparison that is a network."""

import torch
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.functional.distances import class_sums
from metalit.heads.base import Head


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
            raise ValueError(
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
