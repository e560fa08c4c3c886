"""Proximal meta-policy search (Rothfuss et al. 2019, https://arxiv.org/abs/1810.06784), algorithm 1.

1  initialise theta
2  while not done
3      sample tasks T_b                                                                     (data module)
4      for each T_b: sample trajectories D_b with theta, adapt to theta_b, sample D'_b with theta_b
5      repeat epochs times
6          theta_b <- theta + alpha grad J^LR(theta; D_b)                               (low-variance curvature)
7          theta <- theta + beta grad sum_b [J^CLIP(theta_b; D'_b) - eta KL(pi_before, pi_theta)]
"""

from typing import Any

from torch import nn

from metalit.algorithms.reinforcement.policy_gradient import PolicyGradientMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class ProMP(PolicyGradientMetaLearner):
    """MAML with the low-variance curvature surrogate, several clipped outer steps, and a penalty on the divergence.

    Args:
        network: the policy; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate; > 0.
        divergence: eta, the weight of the penalty, >= 0.
        clip: epsilon of the clipped objective, > 0.
        epochs: outer steps on the same trajectories.
        **learner: the settings of ``PolicyGradientMetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.1,
        divergence: float = 5e-4,
        clip: float = 0.3,
        epochs: int = 5,
        **learner: Any,
    ) -> None:
        super().__init__(
            network,
            update_rule=SGD(inner_lr),
            max_divergence=None,
            divergence=divergence,
            clip=clip,
            epochs=epochs,
            **learner,
        )

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step (line 6)."""
        return self.policy_gradient_step(meta, support, adapted, state)
