"""A meta-loss on both the support and the query set."""

import torch
from torch import Tensor

from metalit.errors import not_negative
from metalit.objectives.base import LearnedTask, Objective
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params


class JointLoss(Objective):
    """The mean over tasks of w_S L_S(theta') + w_Q L_Q(theta'), both at the adapted parameters theta'.

    Args:
        support_weight: w_S, >= 0; with 0 the objective is ``QueryLoss`` times w_Q.
        query_weight: w_Q, >= 0.
    """

    uses_adaptation = True

    def __init__(self, support_weight: float = 1.0, query_weight: float = 1.0) -> None:
        self.support_weight = not_negative("support_weight", support_weight)
        self.query_weight = not_negative("query_weight", query_weight)

    def measure(self, task: LearnedTask) -> Params:
        """Return the support loss after adaptation."""
        return {"support_loss": task.loss(task.path[-1], task.support)}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean weighted sum of support and query loss over tasks."""
        support = outcome.measured["support_loss"]
        return torch.mean(self.support_weight * support + self.query_weight * outcome.loss)
