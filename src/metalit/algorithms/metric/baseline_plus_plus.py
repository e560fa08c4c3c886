"""Baseline++ (Chen et al. 2019, https://arxiv.org/abs/1904.04232), section 3.2: the baseline by cosines.

1  train network f and directions w_c, of all training classes c, by the cross-entropy of the logits
scale cos(f(x), w_c)                                               (PretrainingLearner, CosineLayer)
2  in the test, embed a task's support set by f, which stays as it is
3  fit new directions to it by gradient descent, and classify by them     (CosineClassifier)
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.pretraining import PretrainingLearner
from metalit.heads import CosineClassifier
from metalit.networks.cosine_layer import CosineLayer
from metalit.networks.embedding_length import embedding_length


class BaselinePlusPlus(PretrainingLearner):
    """Transfers a classifier by cosines: embeddings of a class gather around a direction.

    Args:
        network: f, ``[n, ...]`` to ``[n, D]``.
        classes: C, classes of the training split, >= 2; ``data.train_labels: split`` numbers them.
        scale: of line 1, > 0; the authors take 2 up to 200 classes and 10 for more.
        fit_scale: of line 3, > 0.
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
        scale: float = 2.0,
        fit_scale: float = 2.0,
        steps: int = 200,
        learning_rate: float = 0.01,
        weight_decay: float = 0.001,
        features: int | None = None,
        **learner: Any,
    ) -> None:
        length = embedding_length(network, features, type(self).__name__)
        head = CosineClassifier(fit_scale, steps, learning_rate, weight_decay)
        super().__init__(network, CosineLayer(length, max(classes, 1), scale), head, classes, **learner)
