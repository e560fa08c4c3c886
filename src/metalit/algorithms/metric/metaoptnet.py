"""MetaOptNet (Lee et al. 2019, https://arxiv.org/abs/1904.03758), with the base learners of section 3.

    1  sample a task: a support set (X, Y) and a query set                                    (data module)
    2  embed both                                                                             (network)
    3  A = the dual variables of a linear classifier on the support set, the solution of
           svm:    min 1/2 tr(A' K A) - <A, Y>  over A <= C Y with rows that sum to 0         (SupportVectorMachine)
           ridge:  min 1/2 tr(A' (K + lambda I) A) - 2 <A, Y>                                 (RidgeRegression)
    4  logits = gamma q X' A
    5  minimise the cross-entropy over network and gamma; line 3 is differentiated by the implicit function theorem

with K = X X' (svm: + I). In training, the labels of line 5 are smoothed. On regression tasks, which ``ridge`` takes,
the predictions are q X' A / 2 and the loss is the squared error.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from metalit.algorithms.metric.base import MetricMetaLearner, with_transform
from metalit.episode import Labelled
from metalit.errors import check
from metalit.functional.masks import masked_mean
from metalit.heads import Head, RidgeRegression, Step, SupportVectorMachine
from metalit.tasks.parameters import Params
from metalit.tasks.precision import full_precision


class MetaOptNet(MetricMetaLearner):
    """Fits a linear classifier to the support embeddings with a convex solver.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``.
        base_learner: the convex problem of line 3.
        cost: C of the support vector machine, > 0.
        strength: lambda of ridge regression, > 0.
        scale: initial gamma, > 0.
        label_smoothing: probability mass of a label that is spread over all classes in training, in [0, 1).
        iterations: iterations of the support vector machine's solver, >= 1.
        transform: steps applied to every embedding: ``power``, ``centre``, ``l2``; see ``EmbeddingTransform``.
        features: D, for the step ``centre``; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        SettingError: a number outside its range.
    """

    def __init__(
        self,
        network: nn.Module,
        base_learner: Literal["svm", "ridge"] = "svm",
        cost: float = 0.1,
        strength: float = 50.0,
        scale: float = 1.0,
        label_smoothing: float = 0.1,
        iterations: int = 15,
        transform: Sequence[Step] = (),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        check("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "a number in [0, 1)")
        head: Head = SupportVectorMachine(cost, scale, iterations)
        if base_learner == "ridge":
            # line 3 gives A = 2 (K + lambda I)^-1 Y, twice the solution of ridge regression
            head = RidgeRegression(strength, 2 * scale, intercept=False, learn_strength=False)
        super().__init__(network, with_transform(head, transform, network, features), **learner)
        self.label_smoothing = label_smoothing

    def loss(self, meta: Params, support: Labelled, query: Labelled, scores: Tensor) -> Tensor:
        """Return the cross-entropy of line 5, in training with smoothed labels; in regression the squared error."""
        if query.y.is_floating_point():
            return super().loss(meta, support, query, scores)
        return smoothed_cross_entropy(scores, query.y, self.label_smoothing if self.training else 0.0, query.mask)


@full_precision
def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float, mask: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy with smoothed labels, 0-d."""
    # torch spreads the mass over all classes, the authors' code over all but the right one
    return masked_mean(F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing), mask)
