"""Prototypical networks (Snell, Swersky and Zemel 2017, https://arxiv.org/abs/1703.05175), algorithm 1.

    1  sample N_C classes and, of each, a support set S_k and a query set Q_k                  (data module)
    2  for each class k:  c_k = mean of f(x) over S_k
    3  for each query (x, y):  J += d(f(x), c_y) + log sum_k exp(-d(f(x), c_k))                (cross-entropy)

with d the squared Euclidean distance, summed over dimensions.
"""

from torch import Tensor

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.episode import Labelled
from metalit.functional.distances import class_means, squared_euclidean


class PrototypicalNetwork(MetricMetaLearner):
    """Classifies a query by its nearest class mean.

    The paper trains with more ways than it tests with: ``data.train_ways``.
    """

    def scores(self, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Return -d(f(x), c_k) as logits ``[Q, N]``."""
        prototypes = class_means(support.x, support.y, ways)  # line 2
        return -squared_euclidean(query, prototypes)  # line 3
