"""Baseline (Chen et al. 2019, https://arxiv.org/abs/1904.04232), section 3.2: pretraining, then a new linear layer.

1  train network f and a linear layer to classify all training classes, by the cross-entropy   (PretrainingLearner)
2  at test time, embed the support set of a task by f, which is frozen
3  fit a new linear layer to the embeddings by gradient descent, and classify the queries      (LinearClassifier)
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.pretraining import PretrainingLearner
from metalit.heads import LinearClassifier
from metalit.networks.embedding_length import embedding_length


class Baseline(PretrainingLearner):
    """Transfers an ordinary classifier: no few-shot tasks in training, a new linear layer for each task at test time.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``.
        steps: gradient steps of line 3, each on the whole support set; >= 0.
        learning_rate: learning rate of line 3, > 0.
        weight_decay: weight decay of line 3, >= 0.
        features: D, the length of an embedding; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, D is not known, or the data have other classes or labels.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: int,
        steps: int = 200,
        learning_rate: float = 0.01,
        weight_decay: float = 0.001,
        features: int | None = None,
        **learner: Any,
    ) -> None:
        length = embedding_length(network, features, type(self).__name__)
        # full-batch steps from zero, so the result is not random; the authors use mini-batches
        head = LinearClassifier(steps, learning_rate, weight_decay)
        # max: the base class reports too few classes, after the linear layer is built
        super().__init__(network, nn.Linear(length, max(classes, 1)), head, classes, **learner)
