"""A loss whose gradient is Reptile's update."""

import torch
from torch import Tensor

from metalit.objectives.base import LearnedTask, Objective
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params


class ReptileLoss(Objective):
    """The mean over tasks of 1/2 ||theta - stop_gradient(theta')||^2, summed over the parameters that adapt.

    Its gradient is the mean of theta - theta'. A step of gradient descent with learning rate epsilon therefore moves
    theta to (1 - epsilon) theta + epsilon times the mean theta' (Nichol, Achiam and Schulman 2018).
    """

    uses_adaptation = True

    def measure(self, task: LearnedTask) -> Params:
        """Return half the squared distance between initial and adapted parameters."""
        # Written as a loss, the update needs no optimiser of its own and works with automatic optimisation, mixed
        # precision and several ranks.
        theta, adapted = task.path[0], task.path[-1]
        squares = [(theta[name] - adapted[name].detach()).square().sum() for name in task.adapted]
        return {"displacement": torch.stack(squares).sum() / 2}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean of half the squared distances over tasks."""
        return outcome.measured["displacement"].mean()
