"""Joint training on all tasks, then fine-tuning: the baseline of the gradient-based family.

    1  initialise theta
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                  (data module)
    4      theta <- theta - beta times the mean over b of grad L(theta; D_b and D'_b)          (engine, Lightning)
    5  in evaluation, for each task T_b
    6      theta_b = theta
    7      repeat eval_inner_steps times:  theta_b <- theta_b - alpha grad L(theta_b; D_b)

Training takes no inner step: theta is the single network that fits all tasks best. MAML has to beat it.
"""

from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.objectives import JointLoss, Objective
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class TMAML(GradientBasedMetaLearner):
    """TMAML: joint training on all tasks, with fine-tuning in evaluation.

    With the objective ``QueryLoss`` it is MAML with no inner steps in training.

    Args:
        network: the network; its parameters are the jointly trained initialisation.
        inner_lr: alpha, the learning rate of fine-tuning; > 0.
        eval_inner_steps: fine-tuning steps in validation, testing and prediction; >= 0.
        objective: the meta-loss; default: half the support loss plus half the query loss. This is the mean over all
            examples of a task if there are as many support as query examples (``data.train_queries``).
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
        """Return theta_b after one more fine-tuning step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 7
        return self.update(meta, gradient, state, adapted, loss)
