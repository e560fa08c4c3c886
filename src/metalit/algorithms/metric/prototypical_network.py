"""Prototypical networks (Snell, Swersky and Zemel 2017, https://arxiv.org/abs/1703.05175), algorithm 1.

    1  sample N_C classes and, of each, a support set S_k and a query set Q_k                  (data module)
    2  for each class k:  c_k = mean of f(x) over S_k                                          (NearestClassMean)
    3  for each query (x, y):  J += d(f(x), c_y) + log sum_k exp(-d(f(x), c_k))                (cross-entropy)

with d the squared Euclidean distance, summed over dimensions, and f a network, followed by ``transform`` if given.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.metric.base import MetricMetaLearner, with_transform
from metalit.heads import NearestClassMean, Similarity, SquaredEuclidean, Step


class PrototypicalNetwork(MetricMetaLearner):
    """Classifies a query by its nearest class mean, the prototype.

    The paper trains with more ways than it tests with; see ``data.train_ways``.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        similarity: -d; default: the negative squared Euclidean distance. Its ``scale`` is the inverse temperature.
        transform: steps applied to every embedding: ``power``, ``centre``, ``l2``; see ``EmbeddingTransform``.
        features: D, for the step ``centre``; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        similarity: Similarity | None = None,
        transform: Sequence[Step] = (),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        head = NearestClassMean(similarity or SquaredEuclidean())
        super().__init__(network, with_transform(head, transform, network, features), **learner)
