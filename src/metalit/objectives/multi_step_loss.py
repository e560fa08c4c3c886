"""The multi-step loss of MAML++: a meta-loss on the query loss after every inner step."""

import torch
from torch import Tensor

from metalit.errors import at_least, check
from metalit.objectives.base import LearnedTask, Objective
from metalit.objectives.query_loss import QueryLoss
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params


class MultiStepLoss(Objective):
    """The mean over tasks of sum_i v_i L_query(theta_i), theta_i after inner step i = 1..T (Antoniou et al. 2019).

    All weights v_i start at 1/T. In each epoch the weights of all steps but the last decrease by (1/T) / ``epochs``,
    down to ``floor``/T. The weight of the last step increases by the same total, so that the sum stays 1. After
    ``epochs`` epochs only the last step counts, and the objective is ``QueryLoss``, as it always is with T = 1.

    Args:
        epochs: number of training epochs until only the last step counts; with 0 the objective is ``QueryLoss``.
        floor: lower bound of a step's weight until then, as a fraction of its initial weight; in [0, 1].

    Raises:
        SettingError: a number is out of its range.
    """

    uses_adaptation = True

    def __init__(self, epochs: int = 10, floor: float = 0.03) -> None:
        at_least(0, epochs=epochs)
        check("floor", floor, 0 <= floor <= 1, "a number in [0, 1]")
        self.epochs, self.floor = epochs, floor
        # a tensor, since compiled code takes it as an input: every new Python number would be compiled again
        self.share = torch.tensor(self._share(0), dtype=torch.float64)

    def at_epoch(self, epoch: int) -> Objective:
        """Return the objective with the weights of an epoch, or ``QueryLoss`` from epoch ``epochs`` on."""
        # QueryLoss also saves the forward pass on the query set after each step
        if epoch >= self.epochs:
            return QueryLoss()
        now = MultiStepLoss(self.epochs, self.floor)
        now.share = torch.tensor(self._share(epoch), dtype=torch.float64)
        return now

    def weights(self, steps: int) -> Tensor:
        """Return the weights v ``[steps]`` of the steps, for ``steps`` >= 1."""
        early = (self.share / steps).expand(steps - 1)
        return torch.cat([early, 1 - early.sum(dim=0, keepdim=True)])

    def measure(self, task: LearnedTask) -> Params:
        """Return the query loss after each inner step, ``[T]``, or before adaptation if there are no steps, ``[1]``."""
        path = task.path[1:] or task.path
        return {"step_losses": torch.stack([task.loss(adapted, task.query) for adapted in path])}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean over tasks of the weighted sum of query losses."""
        losses = outcome.measured["step_losses"].mean(dim=0)
        return self.weights(len(losses)).to(losses) @ losses

    def _share(self, epoch: int) -> float:
        """Return the weight of a step before the last, as a fraction of its initial weight 1/T."""
        return max(1 - epoch / self.epochs, self.floor) if epoch < self.epochs else 0.0
