"""Ridge probe: a linear classifier of frozen embeddings by ridge regression, in closed form.

1  train network f and a linear layer to classify all training classes, or take f as it is     (PretrainingLearner)
2  at test time, transform the embeddings of a task                                            (EmbeddingTransform)
3  W, b = argmin sum_i ||x_i W + b - y_i||^2 + lambda ||W||^2 over the support set              (RidgeClassifier)
4  logits = scale (q W + b)
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.metric.base import with_transform
from metalit.algorithms.metric.pretraining import PretrainingLearner, linear_classifier
from metalit.heads import RidgeClassifier, Step


class RidgeProbe(PretrainingLearner):
    """Transfers an embedding: ridge regression on one-hot labels for each task.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``. Not
            given: the network is used as it is.
        strength: lambda, > 0.
        scale: factor of the predictions, > 0; changes probabilities, not classes.
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
        scale: float = 10.0,
        transform: Sequence[Step] = ("l2",),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        head = with_transform(RidgeClassifier(strength, scale), transform, network, features)
        super().__init__(network, linear_classifier(network, classes, features), head, classes, **learner)
