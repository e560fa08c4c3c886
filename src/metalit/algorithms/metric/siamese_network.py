"""Siamese networks (Koch, Zemel and Salakhutdinov 2015, https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf).

1  draw pairs of examples, half of them from one class: here all pairs of a support example and a query   (data module)
2  embed both by one network:  h1 = f(x1), h2 = f(x2)                                                      (network)
3  p(same) = sigmoid(b - sum_j a_j |h1_j - h2_j|)                                                          (WeightedL1)
4  minimise the cross-entropy of p, with equal total weight on pairs of the same class and of different classes
5  at test time, assign a query to the class with the highest p(same), averaged over its shots           (Verification)
"""

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.episode import Labelled
from metalit.functional.masks import mask_of, masked_mean
from metalit.heads import Verification, WeightedL1
from metalit.networks.embedding_length import embedding_length
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope
from metalit.tasks.precision import full_precision


class SiameseNetwork(MetricMetaLearner):
    """Learns whether two examples belong to the same class.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        average: whether line 5 averages the ``logits`` or the ``probabilities`` over the shots of a class.
        features: D, the length of an embedding; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: D is neither given nor known.
    """

    def __init__(
        self,
        network: nn.Module,
        average: Literal["logits", "probabilities"] = "logits",
        features: int | None = None,
        **learner: Any,
    ) -> None:
        length = embedding_length(network, features, type(self).__name__)
        super().__init__(network, Verification(WeightedL1(length), average), **learner)

    def loss(self, meta: Params, support: Labelled, query: Labelled, scores: Tensor) -> Tensor:
        """Return the loss of line 4 over all pairs of a query and a support example."""
        similarity = self.head.get_submodule("similarity")
        pairs = functional_call(similarity, scope(meta, "head.similarity"), (query.x, support.x))
        real = mask_of(query).unsqueeze(1) & mask_of(support).unsqueeze(0)
        return balanced_cross_entropy(pairs, query.y.unsqueeze(1) == support.y.unsqueeze(0), real)


@full_precision
def balanced_cross_entropy(logits: Tensor, same: Tensor, real: Tensor) -> Tensor:
    """Return the binary cross-entropy, 0-d, with equal total weight on positives and negatives.

    Args:
        logits: logits of "same class", of any shape.
        same: whether a pair is of the same class, in the same shape; at least one is and at least one is not.
        real: whether a pair is of two examples, in the same shape, and none of them padding.
    """
    # only 1 of N pairs of an episode is of the same class, where the paper draws half of its pairs from one class
    right = same.to(logits.dtype)
    share = masked_mean(right.flatten(), real.flatten())
    weight = right / share + (1 - right) / (1 - share)
    losses = F.binary_cross_entropy_with_logits(logits, right, weight, reduction="none")
    return masked_mean(losses.flatten(), real.flatten()) / 2
