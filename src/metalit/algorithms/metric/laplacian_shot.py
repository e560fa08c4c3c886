"""LaplacianShot (Ziko et al. 2020, https://arxiv.org/abs/2006.15486), algorithm 1.

1  train network f and a linear layer to classify all training classes, by the cross-entropy   (PretrainingLearner)
2  at test time, z = f(x) of the support set and all queries, centred and scaled to unit length (EmbeddingTransform)
3  m_k = class means of the support set, rectified by the queries                              (LaplacianRegularization)
4  a_ik = |z_i - m_k|^2;   w_ij = 1 if query j is one of the nearest neighbours of query i
5  y_i = softmax(-a_i);   repeat:  y_i <- softmax(-a_i + lambda sum_j w_ij y_j)
6  classify query i by y_i
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.metric.base import with_transform
from metalit.algorithms.metric.pretraining import PretrainingLearner, linear_classifier
from metalit.heads import LaplacianRegularization, Step


class LaplacianShot(PretrainingLearner):
    """Nearest class means, with predictions that agree with those of the nearest other queries: transductive.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``. Not
            given: the network is used as it is.
        smoothness: lambda, >= 0; the authors choose it on validation tasks, from 0.1 to 1.5.
        neighbours: number of other queries that each query is linked to, >= 0.
        iterations: repetitions of line 5, >= 0.
        rectify: whether the queries take part in the class means.
        transform: steps applied to every embedding of a task: ``power``, ``centre``, ``l2``.
        features: D, the length of an embedding; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, D is not known, or the data have other classes or labels.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: int | None = None,
        smoothness: float = 0.7,
        neighbours: int = 2,
        iterations: int = 20,
        rectify: bool = True,
        transform: Sequence[Step] = ("centre", "l2"),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        head = LaplacianRegularization(smoothness, neighbours, iterations, rectify)
        head_of_task = with_transform(head, transform, network, features)
        super().__init__(network, linear_classifier(network, classes, features), head_of_task, classes, **learner)
