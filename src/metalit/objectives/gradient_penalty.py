"""A penalty on the query gradient at the adapted parameters."""

import torch
from torch import Tensor

from metalit.errors import not_negative
from metalit.objectives.base import LearnedTask, Objective
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params
from metalit.tasks.pullback import gradient_and_value


class GradientPenalty(Objective):
    """The mean over tasks of L_Q(theta') + lambda/2 ||grad_theta' L_Q(theta')||^2.

    It prefers adapted parameters around which the query loss is flat. With g = grad_theta' L_Q(theta'), the query
    Hessian H and J = d theta'/d theta, the meta-gradient of a task is J'(g + lambda H g). The additional cost is one
    Hessian-vector product.

    Args:
        weight: lambda, >= 0; with 0 the objective is ``QueryLoss``. The square is summed over all adapted parameters.
    """

    uses_adaptation = True

    def __init__(self, weight: float = 0.01) -> None:
        self.weight = not_negative("weight", weight)

    def measure(self, task: LearnedTask) -> Params:
        """Return the squared norm of the query gradient."""
        adapted = {name: task.path[-1][name] for name in task.adapted}
        # the gradient is with respect to what adapts only, as is the penalty
        fixed = {name: value for name, value in task.path[-1].items() if name not in adapted}
        gradient, _ = gradient_and_value(lambda parameters: task.loss({**fixed, **parameters}, task.query), adapted)
        squares = [value.square().sum() for value in gradient.values()]
        return {"squared_query_gradient": torch.stack(squares).sum()}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean penalised query loss over tasks."""
        return torch.mean(outcome.loss + self.weight / 2 * outcome.measured["squared_query_gradient"])
