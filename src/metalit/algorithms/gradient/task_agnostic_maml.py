"""Task-agnostic meta-learning (Jamal and Qi 2019, https://arxiv.org/abs/1805.07722), algorithms 1 and 2.

1  initialise theta
2  while not done
3      sample tasks T_b, each with a support set D_b and a query set D'_b                  (data module)
4      for each T_b
5          theta_b = theta
6          repeat inner_steps times:  theta_b <- theta_b - alpha grad L(theta_b; D_b)
7      theta <- theta - beta grad_theta { mean_b L(theta_b; D'_b) + lambda bias }          (engine, Lightning)

where bias is  mean_b [H(f_theta_b) - H(f_theta)], the change in entropy of predictions on D_b       (entropy)
            or I(L(theta; D_1), ..., L(theta; D_B)), the inequality of losses before adaptation      (all others)
"""

from typing import Any, Literal

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.objectives import MaxMinEntropy, TaskInequality
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class TaskAgnosticMAML(GradientBasedMetaLearner):
    """MAML whose initialisation is regularised not to favour some of the tasks.

    Differences from the paper: see docs/algorithms/task_agnostic_maml.md. The authors have published no code.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate; > 0.
        measure: the measure of bias: ``entropy`` of predictions (classification only), or a measure of inequality
            between the losses of tasks.
        weight: lambda, >= 0; with 0 the method is MAML.
        parameter: alpha of ``generalised_entropy``, or epsilon > 0 of ``atkinson``; unused by all other measures.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.01,
        measure: Literal["entropy", "theil", "generalised_entropy", "atkinson", "gini", "variance_of_logs"] = "entropy",
        weight: float = 0.1,
        parameter: float = 2.0,
        **learner: Any,
    ) -> None:
        # entropy is a term per task; inequality compares all tasks of a step, on all ranks
        bias = MaxMinEntropy(weight) if measure == "entropy" else TaskInequality(measure, weight, parameter)
        super().__init__(network, update_rule=SGD(inner_lr), objective=bias, **learner)  # line 7
        self.measure, self.weight = measure, weight

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 6
        return self.update(meta, gradient, state, adapted, loss)

    def setting(self) -> dict[str, Any]:
        """Add the measure of bias and its weight to the reported settings."""
        return {**super().setting(), "measure": self.measure, "weight": self.weight}
