"""Reptile (Nichol, Achiam and Schulman 2018, https://arxiv.org/abs/1803.02999), algorithm 2, with policy gradients.

    1  initialise theta
    2  while not done
    3      sample tasks T_b                                                                     (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times
    7              sample trajectories D_b with the policy of theta_b
    8              theta_b <- theta_b + alpha grad J(theta_b; D_b)
    9      theta <- theta + epsilon times the mean of (theta_b - theta)                         (any optimiser)

Line 9 is gradient descent with learning rate epsilon on the mean of 1/2 ||theta - theta_b||^2, theta_b held constant
(``ReptileLoss``).
"""

from typing import Any

from torch import nn

from metalit.algorithms.gradient.displacement import refuse_idle
from metalit.algorithms.reinforcement.policy_gradient import PolicyGradientMetaLearner
from metalit.episode import Labelled
from metalit.errors import at_least, check
from metalit.objectives import ReptileLoss
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class ReptilePolicyGradient(PolicyGradientMetaLearner):
    """Reptile for policies: the initialisation moves towards the adapted policy of each task.

    Trajectories after the last inner step are drawn in training for ``train/return`` only.

    Args:
        network: the policy; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate; > 0.
        inner_steps: inner steps per task in training; >= 1. With one, training follows the mean policy gradient of all
            tasks, which does not prepare for learning one of them.
        max_divergence: None: the outer step is that of ``optimizer``, never a trust region step.
        **learner: the settings of ``PolicyGradientMetaLearner``, ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: a setting out of its range, trust region steps, or trained parameters that do not adapt.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.1,
        inner_steps: int = 3,
        max_divergence: float | None = None,
        **learner: Any,
    ) -> None:
        check(
            "max_divergence",
            max_divergence,
            max_divergence is None,
            "null: Reptile moves by a displacement, which is no loss that trust region steps could lower; its outer "
            "step is that of model.optimizer",
        )
        super().__init__(
            network,
            update_rule=SGD(inner_lr),
            inner_steps=inner_steps,
            first_order=True,  # ReptileLoss takes no derivative through the inner steps
            objective=ReptileLoss(),
            max_divergence=None,
            clip=None,
            epochs=1,  # after a step, theta would adapt on trajectories of another policy
            exploration=0.0,
            divergence=0.0,
            **learner,
        )
        at_least(1, inner_steps=inner_steps)
        refuse_idle(network, self.adapted_names)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step (line 8)."""
        return self.policy_gradient_step(meta, support, adapted, state)
