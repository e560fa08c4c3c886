"""R2-D2, ridge regression differentiable discriminator (Bertinetto et al. 2019, https://arxiv.org/abs/1805.08136).

    1  sample a task: a support set (X, Y) and a query set                                       (data module)
    2  embed both, and append a 1 to every embedding                                             (network)
    3  W = argmin ||X W - Y||^2 + lambda ||W||^2 = X'(XX' + lambda I)^-1 Y                       (RidgeRegression)
    4  logits = alpha q W
    5  minimise the cross-entropy over network, alpha and lambda, through line 3                 (engine, Lightning)

Line 3 is solved with X'X instead of XX' if embeddings have fewer dimensions than the support set has examples.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.metric.base import MetricMetaLearner, with_transform
from metalit.heads import RidgeRegression, Step


class R2D2(MetricMetaLearner):
    """Fits a linear classifier to the support embeddings in closed form.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``.
        strength: initial lambda, > 0.
        scale: initial alpha, > 0; learned.
        learn_strength: whether lambda is learned; otherwise it is fixed.
        transform: steps applied to every embedding: ``power``, ``centre``, ``l2``; see ``EmbeddingTransform``.
        features: D, for the step ``centre``; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        strength: float = 1.0,
        scale: float = 10.0,
        learn_strength: bool = True,
        transform: Sequence[Step] = (),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        head = RidgeRegression(strength, scale, learn_strength=learn_strength)
        super().__init__(network, with_transform(head, transform, network, features), **learner)
