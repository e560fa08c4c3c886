"""Alpha-TIM (Veilleux et al. 2021, https://arxiv.org/abs/2204.11181), section 4: TIM for queries of unequal classes.

1  train network f and a linear layer to classify all training classes, by the cross-entropy   (PretrainingLearner)
2  at test time, embed the support set and all queries of a task, scaled to unit length         (EmbeddingTransform)
3  w_k = mean of the support embeddings of class k;   p_ik = softmax_k(-tau/2 |z_i - w_k|^2)
4  repeat:  w <- w - eta grad [ CE(support) - (H_alpha(Y) - H_alpha(Y|X)) ], Adam  (InformationMaximization)
       H_alpha(p) = (1 - sum_k p_k^alpha) / (alpha - 1), of the mean of p, and its mean over the queries
5  classify each query by its p
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.metric.base import with_transform
from metalit.algorithms.metric.pretraining import PretrainingLearner, linear_classifier
from metalit.heads import InformationMaximization, Step


class AlphaTIM(PretrainingLearner):
    """TIM with alpha-entropies, which do not push towards as many queries of each class: transductive.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``. Not
            given: the network is used as it is.
        alpha: alpha of both entropies, > 0; the authors use 2 at 1 shot and 7 from 5 shots on. 1 is Shannon's.
        temperature: tau, > 0.
        support_weight: weight of the support cross-entropy, >= 0.
        marginal_weight: weight of the entropy of the mean prediction, >= 0.
        conditional_weight: weight of the mean entropy of a prediction, >= 0.
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
        alpha: float = 2.0,
        temperature: float = 15.0,
        support_weight: float = 1.0,
        marginal_weight: float = 1.0,
        conditional_weight: float = 1.0,
        learning_rate: float = 1e-4,
        steps: int = 1000,
        transform: Sequence[Step] = ("l2",),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        weights = support_weight, marginal_weight, conditional_weight
        head = InformationMaximization(temperature, *weights, alpha, learning_rate, steps)
        head_of_task = with_transform(head, transform, network, features)
        super().__init__(network, linear_classifier(network, classes, features), head_of_task, classes, **learner)
