"""Model-agnostic meta-learning (Finn, Abbeel and Levine 2017, https://arxiv.org/abs/1703.03400), algorithm 2.

    1  initialise theta
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                  (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times:  theta_b <- theta_b - alpha grad L(theta_b; D_b)
    7      theta <- theta - beta grad_theta sum_b L(theta_b; D'_b)                              (engine, Lightning)

Line 7 differentiates through line 6, including second derivatives.
"""

from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class MAML(GradientBasedMetaLearner):
    """MAML, second order.

    Differences from the paper: the inner loss is a *mean* over the support set. The authors' code sums the
    cross-entropy over classes, so its inner learning rate of 0.4 for 5-way Omniglot is ``inner_lr=2.0`` here.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate; > 0.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(self, network: nn.Module, inner_lr: float = 0.01, **learner: Any) -> None:
        super().__init__(network, update_rule=SGD(inner_lr), **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 6
        return self.update(meta, gradient, state, adapted, loss)
