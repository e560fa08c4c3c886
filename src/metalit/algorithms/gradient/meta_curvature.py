"""Meta-Curvature (Park and Oliva 2019, https://arxiv.org/abs/1902.03356).

    1  initialise theta, and the matrices M = (M_out, M_in, M_filter) of every layer as identities
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b            (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times:
    7              G = grad L(theta_b; D_b)
    8              MC(G) = G x_out M_out x_in M_in x_filter M_filter, layer by layer     (``Curvature``)
    9              theta_b <- theta_b - alpha MC(G)
   10      (theta, M) <- (theta, M) - beta grad_(theta, M) sum_b L(theta_b; D'_b)        (engine, Lightning)

Line 10 differentiates through lines 7 to 9, including second derivatives.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params, select
from metalit.update_rules.curvature import Curvature


class MetaCurvature(GradientBasedMetaLearner):
    """MAML whose inner gradients are transformed by meta-learned matrices, one for each axis of a weight.

    Differences from the paper: the inner loss is a *mean* over the support set. The authors' code, which builds on
    MAML's, sums the cross-entropy over classes, so its inner learning rate of 0.4 for 5-way Omniglot is
    ``inner_lr=2.0`` here.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate, which is not learned; > 0.
        inner_steps: inner steps per task in training, >= 0.
        adapted: shell-style patterns of the parameters that adapt; only these have matrices.
        shared: share one set of matrices among all inner steps. Otherwise each step has its own, and steps beyond
            ``inner_steps``, in evaluation, use those of the last.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.01,
        inner_steps: int = 1,
        adapted: Sequence[str] = ("*",),
        shared: bool = True,
        **learner: Any,
    ) -> None:
        # identities: training starts as MAML
        rule = Curvature(select(network, adapted), inner_lr, sets=1 if shared else max(inner_steps, 1))  # line 1
        super().__init__(network, update_rule=rule, inner_steps=inner_steps, adapted=adapted, **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step along the transformed gradient."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 7
        return self.update(meta, gradient, state, adapted, loss)  # lines 8 and 9
