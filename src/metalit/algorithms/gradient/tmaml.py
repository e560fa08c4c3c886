"""Training for the average task, then fine-tuning: joint training as a member of the family.

    1  initialise theta
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                  (data module)
    4      theta <- theta - beta times the mean over b of grad L(theta; D_b and D'_b)          (engine, Lightning)
    5  in evaluation, for each T_b
    6      theta_b = theta
    7      repeat eval_inner_steps times:  theta_b <- theta_b - alpha grad L(theta_b; D_b)

Training takes no inner step: theta is what serves all tasks best at once. It is what MAML has to beat.
"""

from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.objectives import JointLoss, Objective
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class TMAML(GradientBasedMetaLearner):
    """TMAML: joint training on all tasks, fine-tuned where it is evaluated.

    With the objective ``QueryLoss`` it is MAML with no inner steps in training.

    Args:
        network: the network; its parameters are the jointly trained initialisation.
        inner_lr: alpha, the rate of fine-tuning; > 0.
        eval_inner_steps: steps of fine-tuning in validation, test and prediction; >= 0.
        objective: what training minimises; half the support and half the query loss if not given, which is the mean
            over all examples of a task where there are as many of the one as of the other (``data.train_queries``).
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.01,
        eval_inner_steps: int = 10,
        objective: Objective | None = None,
        **learner: Any,
    ) -> None:
        super().__init__(
            network,
            update_rule=SGD(inner_lr),
            inner_steps=0,
            eval_inner_steps=eval_inner_steps,
            objective=JointLoss(0.5, 0.5) if objective is None else objective,
            **learner,
        )

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 7
        return self.update(meta, gradient, state, adapted, loss)
