"""The meta-loss of Bayesian MAML: adapted parameters chase those that know more."""

import torch
from torch import Tensor

from metalit.errors import at_least
from metalit.functional.examples import joined
from metalit.objectives.base import LearnedTask, Objective
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params, detached


class ChaserLoss(Objective):
    """The mean over tasks of ||theta' - stop_gradient(theta'')||^2, summed over the parameters that adapt.

    theta'', the leader, is theta' after further inner steps on support and query set together (Yoon et al. 2018). So
    adaptation learns to reach from the support set what it would reach from all examples, in the space of parameters;
    the query loss itself is not minimised, which leaves several particles their differences.

    Args:
        leader_steps: the further inner steps, >= 1.

    Raises:
        ValueError: fewer than one.
    """

    looks_at_adaptation = True

    def __init__(self, leader_steps: int = 1) -> None:
        at_least(1, leader_steps=leader_steps)
        self.leader_steps = leader_steps

    def measure(self, task: LearnedTask) -> Params:
        """Return the squared distance to the leader."""
        chaser = {name: task.path[-1][name] for name in task.adapted}
        constants = detached(task.path[-1])
        leader = task.resume(constants, joined(task.support, task.query), self.leader_steps)[-1]
        squares = [(value - leader[name].detach()).square().sum() for name, value in chaser.items()]
        return {"chaser": torch.stack(squares).sum()}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return its mean over tasks."""
        return outcome.measured["chaser"].mean()
