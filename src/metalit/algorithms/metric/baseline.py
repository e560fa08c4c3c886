"""Baseline (Chen et al. 2019, https://arxiv.org/abs/1904.04232), section 3.2: training, then fine-tuning of a head.

1  train network f and a linear layer to classify all training classes, by the cross-entropy   (PretrainingLearner)
2  in the test, embed a task's support set by f, which stays as it is
3  fit a new linear layer to it by gradient descent, and classify the queries by that          (LinearClassifier)
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.pretraining import PretrainingLearner
from metalit.heads import LinearClassifier
from metalit.networks.embedding_length import embedding_length


class Baseline(PretrainingLearner):
    """Transfers an ordinary classifier: no episodes in training, a new linear layer in the test.

    Args:
        network: f, ``[n, ...]`` to ``[n, D]``.
        classes: C, classes of the training split, >= 2; ``data.train_labels: split`` numbers them.
        steps: of line 3, each over the whole support set; >= 0.
        learning_rate: of line 3, > 0.
        weight_decay: of line 3, >= 0.
        features: D; ``network.features`` if not given.
        **learner: the settings of ``MetaLearner``.

    Raises:
        ValueError: a number outside its range, D is not known, or the data have other classes or labels.
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
        head = LinearClassifier(steps, learning_rate, weight_decay)
        super().__init__(network, nn.Linear(length, max(classes, 1)), head, classes, **learner)
