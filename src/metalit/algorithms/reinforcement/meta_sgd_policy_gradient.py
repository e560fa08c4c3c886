"""Meta-SGD for reinforcement learning (Li, Zhou, Chen and Li 2017, https://arxiv.org/abs/1707.09835), algorithm 2.

    1  initialise theta and the rates alpha, a vector as long as theta
    2  while not done
    3      sample tasks T_b                                                                     (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times
    7              sample trajectories D_b with the policy of theta_b
    8              theta_b <- theta_b + alpha * grad J(theta_b; D_b)                            (elementwise)
    9          sample trajectories D'_b with the policy of theta_b
    10     (theta, alpha) <- a step of the outer optimiser on sum_b J(theta_b; D'_b)     (trust region, or an optimiser)

In the paper, ``inner_steps`` is 1. Line 10 differentiates through line 8, including second derivatives.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.reinforcement.policy_gradient import PolicyGradientMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params, select
from metalit.update_rules import PerParameterSGD, uniform_rates


class MetaSGDPolicyGradient(PolicyGradientMetaLearner):
    """MAML for policies with a meta-learned inner learning rate for every single parameter.

    Differences from the paper: more than one inner step is possible, all with the same learning rates.

    Args:
        network: the policy; its parameters are the meta-learned initialisation.
        inner_lr: initial inner learning rates, > 0: one number for all, or bounds [low, high] between which each is
            drawn uniformly. They are learned without a constraint and may become negative.
        adapted: shell-style patterns of the parameters that adapt; only these have learning rates.
        **learner: the settings of ``PolicyGradientMetaLearner``, ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: bounds that are not positive or in the wrong order.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float | tuple[float, float] = 0.1,
        adapted: Sequence[str] = ("*",),
        **learner: Any,
    ) -> None:
        rule = PerParameterSGD(uniform_rates(select(network, adapted), inner_lr))  # line 1
        super().__init__(network, update_rule=rule, adapted=adapted, **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step (line 8)."""
        return self.policy_gradient_step(meta, support, adapted, state)
