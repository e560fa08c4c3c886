"""Baseline++ (Chen et al. 2019, https://arxiv.org/abs/1904.04232), section 3.2: the baseline with cosine similarity.

1  train network f and a direction w_c for each training class c, by the cross-entropy of the logits
scale cos(f(x), w_c)                                                              (PretrainingLearner, CosineLayer)
2  at test time, embed the support set of a task by f, which is frozen
3  fit new directions to the embeddings by gradient descent, and classify the queries                (CosineClassifier)
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.pretraining import PretrainingLearner
from metalit.heads import CosineClassifier
from metalit.networks.cosine_layer import CosineLayer
from metalit.networks.embedding_length import embedding_length


class BaselinePlusPlus(PretrainingLearner):
    """Transfers a cosine classifier: the embeddings of a class cluster around a direction.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``.
        scale: factor of the cosines in line 1, > 0; the authors use 2 for up to 200 classes and 10 for more.
        fit_scale: factor of the cosines in line 3, > 0.
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
        scale: float = 2.0,
        fit_scale: float = 2.0,
        steps: int = 200,
        learning_rate: float = 0.01,
        weight_decay: float = 0.001,
        features: int | None = None,
        **learner: Any,
    ) -> None:
        length = embedding_length(network, features, type(self).__name__)
        # full-batch steps from the class means, so the result is not random; the authors use mini-batches
        head = CosineClassifier(fit_scale, steps, learning_rate, weight_decay)
        # max: the base class reports too few classes, after the cosine layer is built
        super().__init__(network, CosineLayer(length, max(classes, 1), scale), head, classes, **learner)
