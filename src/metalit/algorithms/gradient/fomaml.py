"""First-order MAML (Finn, Abbeel and Levine 2017, https://arxiv.org/abs/1703.03400, section 5.2).

    1  initialise theta
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                  (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times:  g = stop_gradient(grad L(theta_b; D_b));  theta_b <- theta_b - alpha g
    7      theta <- theta - beta grad_theta sum_b L(theta_b; D'_b)                              (engine, Lightning)

With the inner gradient held constant, line 7 is the query gradient at theta_b: no second derivatives.
"""

from functools import partial
from typing import Any

from torch import nn
from torch.func import grad

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.functional.parameters import Params
from metalit.functional.update_rules import SGD


class FOMAML(GradientBasedMetaLearner):
    """MAML without second derivatives.

    Differences from the paper: the inner loss is a *mean* over the support set (see ``MAML``).

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the rate of the inner steps; > 0.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(self, network: nn.Module, inner_lr: float = 0.01, **learner: Any) -> None:
        super().__init__(network, update_rule=SGD(inner_lr), **learner)

    def trajectory(self, meta: Params, support: Labelled, steps: int) -> list[Params]:
        """Return theta_b before the first and after each inner step."""
        theta = self.start(meta)  # line 5
        loss = partial(self.loss, meta=meta, examples=support)
        state = self.update_rule.init(theta)
        path = [theta]
        for _ in range(steps):  # line 6
            gradient = grad(loss)(theta)
            constant = {name: value.detach() for name, value in gradient.items()}
            theta, state = self.update(meta, constant, state, theta)
            path.append(theta)
        return path
