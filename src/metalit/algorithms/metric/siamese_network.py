"""Siamese networks (Koch, Zemel and Salakhutdinov 2015, https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf).

1  draw pairs of examples, half of them of one class: here all pairs of a support example and a query     (data module)
2  embed both by one network:  h1 = f(x1), h2 = f(x2)                                                      (network)
3  p(same) = sigmoid(b - sum_j a_j |h1_j - h2_j|)                                                          (WeightedL1)
4  minimise the cross-entropy of p, pairs of one class weighing as much as all others together
5  in the test a query goes to the class whose examples it is most likely the same as                    (Verification)
"""

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.episode import Labelled
from metalit.heads import Verification, WeightedL1
from metalit.networks.embedding_length import embedding_length
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope
from metalit.tasks.precision import full_precision


class SiameseNetwork(MetricMetaLearner):
    """Learns whether two examples are of one class.

    Args:
        network: f, ``[n, ...]`` to ``[n, D]``.
        average: of a class's shots in line 5, their ``logits`` or their ``probabilities``.
        features: D; ``network.features`` if not given.
        **learner: the settings of ``MetaLearner``.

    Raises:
        ValueError: D is neither given nor known.
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
        """Return line 4 over all pairs of a query and a support example."""
        similarity = self.head.get_submodule("similarity")
        pairs = functional_call(similarity, scope(meta, "head.similarity"), (query.x, support.x))
        return balanced_cross_entropy(pairs, query.y.unsqueeze(1) == support.y.unsqueeze(0))


@full_precision
def balanced_cross_entropy(logits: Tensor, same: Tensor) -> Tensor:
    """Return the cross-entropy of a yes or no, 0-d, in which all yes together weigh as much as all no.

    Args:
        logits: of yes, any shape.
        same: in the same shape, whether yes is right; of both there is at least one.
    """
    right = same.to(logits.dtype)
    share = right.mean()
    weight = right / share + (1 - right) / (1 - share)
    return F.binary_cross_entropy_with_logits(logits, right, weight) / 2
