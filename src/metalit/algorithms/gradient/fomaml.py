"""First-order MAML (Finn, Abbeel and Levine 2017, https://arxiv.org/abs/1703.03400, section 5.2).

    1  initialise theta
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                  (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times:  g = stop_gradient(grad L(theta_b; D_b));  theta_b <- theta_b - alpha g
    7      theta <- theta - beta grad_theta sum_b L(theta_b; D'_b)                              (engine, Lightning)

With the inner gradient held constant, the gradient of line 7 is the query gradient at theta_b.
"""

from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class FOMAML(GradientBasedMetaLearner):
    """First-order MAML: MAML without second derivatives.

    Differences from the paper: the inner loss is a *mean* over the support set (see ``MAML``).

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate; > 0.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(self, network: nn.Module, inner_lr: float = 0.01, **learner: Any) -> None:
        # first order has a class of its own, so that it is never silent (docs/algorithms/fomaml.md)
        super().__init__(network, update_rule=SGD(inner_lr), first_order=True, **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 6
        return self.update(meta, gradient, state, adapted, loss)
