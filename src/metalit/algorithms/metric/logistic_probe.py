"""Logistic probe: a linear classifier of frozen embeddings by logistic regression, solved to convergence.

1  train network f and a linear layer to classify all training classes, or take f as it is     (PretrainingLearner)
2  at test time, transform the embeddings of a task                                            (EmbeddingTransform)
3  W, b = argmin sum_i CE(x_i W + b, y_i) + lambda/2 ||W||^2 over the support set               (LogisticRegression)
4  logits = q W + b

The method of Tian et al. 2020 (https://arxiv.org/abs/2003.11539), section 3, without their distillation.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.metric.base import with_transform
from metalit.algorithms.metric.pretraining import PretrainingLearner, linear_classifier
from metalit.heads import LogisticRegression, Step


class LogisticProbe(PretrainingLearner):
    """Transfers an embedding: logistic regression for each task.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``. Not
            given: the network is used as it is.
        strength: lambda, > 0; the inverse of scikit-learn's C.
        iterations: iterations of Newton's method, >= 1.
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
        strength: float = 1.0,
        iterations: int = 15,
        transform: Sequence[Step] = ("l2",),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        head = with_transform(LogisticRegression(strength, iterations), transform, network, features)
        super().__init__(network, linear_classifier(network, classes, features), head, classes, **learner)
