"""MAML for reinforcement learning (Finn, Abbeel and Levine 2017, https://arxiv.org/abs/1703.03400), algorithm 3.

    1  initialise theta
    2  while not done
    3      sample tasks T_b                                                                     (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times
    7              sample trajectories D_b with the policy of theta_b
    8              theta_b <- theta_b + alpha grad J(theta_b; D_b)
    9          sample trajectories D'_b with the policy of theta_b
    10     theta <- a step of the outer optimiser on sum_b J(theta_b; D'_b)           (trust region, or any optimiser)

Line 10 differentiates through line 8, including second derivatives.
"""

from typing import Any

from torch import nn

from metalit.algorithms.reinforcement.policy_gradient import PolicyGradientMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class MAMLPolicyGradient(PolicyGradientMetaLearner):
    """MAML whose inner and outer losses are policy gradients.

    Args:
        network: the policy; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate; > 0.
        **learner: the settings of ``PolicyGradientMetaLearner``, ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(self, network: nn.Module, inner_lr: float = 0.1, **learner: Any) -> None:
        super().__init__(network, update_rule=SGD(inner_lr), **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step (line 8)."""
        return self.policy_gradient_step(meta, support, adapted, state)
