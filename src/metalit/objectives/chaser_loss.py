"""The meta-loss of Bayesian MAML: the adapted parameters chase a leader that has also seen the query set."""

import torch
from torch import Tensor

from metalit.errors import at_least
from metalit.functional.masks import together
from metalit.objectives.base import LearnedTask, Objective
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params, detached


class ChaserLoss(Objective):
    """The mean over tasks of ||theta' - stop_gradient(theta'')||^2, summed over the parameters that adapt.

    theta'', the leader, is theta' after further inner steps on support and query set together (Yoon et al. 2018).
    Adaptation learns to reach from the support set alone the parameters that it would reach from all examples. The
    query loss itself is not minimised, since that would make all particles alike.

    Args:
        leader_steps: number of further inner steps of the leader, >= 1.

    Raises:
        SettingError: ``leader_steps`` is below 1.
    """

    uses_adaptation = True

    def __init__(self, leader_steps: int = 1) -> None:
        at_least(1, leader_steps=leader_steps)
        self.leader_steps = leader_steps

    def measure(self, task: LearnedTask) -> Params:
        """Return the squared distance of the adapted parameters to the leader."""
        chaser = {name: task.path[-1][name] for name in task.adapted}
        # the leader is a constant: only the chaser moves towards it, and its steps keep no graph
        constants = detached(task.path[-1])
        leader = task.resume(constants, together(task.support, task.query), self.leader_steps)[-1]
        squares = [(value - leader[name].detach()).square().sum() for name, value in chaser.items()]
        return {"chaser": torch.stack(squares).sum()}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean squared distance over tasks."""
        return outcome.measured["chaser"].mean()
