"""Kernel regression (Nadaraya 1964, Watson 1964) on learned embeddings, as in Weinberger and Tesauro 2007 for one task.

    1  sample a task: a support set (X, Y) and a query set                                   (data module)
    2  embed both with f                                                                     (network)
    3  w_i = softmax_i(-||f(q) - f(x_i)||^2 / (2 h^2))                                       (KernelSmoother)
    4  prediction = sum_i w_i y_i
    5  minimise the squared error over f and h, through lines 3 and 4                        (engine, Lightning)

It is to regression what prototypical networks and matching networks are to classification: no fit, only distances.
Metric learning for kernel regression: https://proceedings.mlr.press/v2/weinberger07a.html.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.metric.base import MetricMetaLearner, with_transform
from metalit.heads import KernelSmoother, Step


class KernelRegression(MetricMetaLearner):
    """Predicts the mean of the support targets, weighted by the distance of their embeddings to the query's.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        bandwidth: initial h, > 0, in units of the embedding; learned.
        transform: steps applied to every embedding: ``power``, ``centre``, ``l2``; see ``EmbeddingTransform``.
        features: D, for the step ``centre``; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: class labels, or a bandwidth that is not positive.
    """

    def __init__(
        self,
        network: nn.Module,
        bandwidth: float = 1.0,
        transform: Sequence[Step] = (),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        super().__init__(network, with_transform(KernelSmoother(bandwidth), transform, network, features), **learner)
