"""TIM-GD, transductive information maximisation (Boudiaf et al. 2020, https://arxiv.org/abs/2008.11297), section 3.

1  train network f and a linear layer to classify all training classes, by the cross-entropy   (PretrainingLearner)
2  at test time, embed the support set and all queries of a task, scaled to unit length         (EmbeddingTransform)
3  w_k = mean of the support embeddings of class k;   p_ik = softmax_k(-tau/2 |z_i - w_k|^2)
4  repeat:  w <- w - eta grad [ lambda CE(support) - (H(Y) - alpha H(Y|X)) ], Adam  (InformationMaximization)
       H(Y) = entropy of the mean of p over the queries,   H(Y|X) = mean entropy of their p
5  classify each query by its p
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.metric.base import with_transform
from metalit.algorithms.metric.pretraining import PretrainingLearner, linear_classifier
from metalit.heads import InformationMaximization, Step


class TIM(PretrainingLearner):
    """Class weights that maximise the information about all queries of a task at once: transductive.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``. Not
            given: the network is used as it is.
        temperature: tau, > 0.
        support_weight: lambda, the weight of the support cross-entropy, >= 0.
        marginal_weight: weight of the entropy of the mean prediction, >= 0.
        conditional_weight: alpha, the weight of the mean entropy of a prediction, >= 0.
        learning_rate: eta, Adam's rate, > 0.
        steps: steps of line 4, >= 0; with 0 it is the nearest class mean.
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
        temperature: float = 15.0,
        support_weight: float = 0.1,
        marginal_weight: float = 1.0,
        conditional_weight: float = 0.1,
        learning_rate: float = 1e-4,
        steps: int = 1000,
        transform: Sequence[Step] = ("l2",),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        weights = support_weight, marginal_weight, conditional_weight
        head = InformationMaximization(temperature, *weights, learning_rate=learning_rate, steps=steps)
        head_of_task = with_transform(head, transform, network, features)
        super().__init__(network, linear_classifier(network, classes, features), head_of_task, classes, **learner)
