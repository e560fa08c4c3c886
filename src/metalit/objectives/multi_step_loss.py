"""A meta-loss on every inner step."""

import torch
from torch import Tensor

from metalit.errors import at_least, check
from metalit.objectives.base import LearnedTask, Objective
from metalit.objectives.query_loss import QueryLoss
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params


class MultiStepLoss(Objective):
    """The mean over tasks of sum_i v_i L_query(theta_i), theta_i after inner step i = 1..T (Antoniou et al. 2019).

    All v_i begin at 1/T. With each epoch those of all but the last step fall by (1/T) / ``epochs``, to no less than
    ``floor``/T, and that of the last takes what they lose, so that the sum stays 1. After ``epochs`` epochs only the
    last step counts: it is ``QueryLoss`` then, as it always is with T = 1.

    Args:
        epochs: training epochs until only the last step counts; 0 is ``QueryLoss``.
        floor: least weight of a step before that, as a share of its weight at the start; 0 to 1.

    Raises:
        ValueError: a number out of its range.
    """

    looks_at_adaptation = True

    def __init__(self, epochs: int = 10, floor: float = 0.03) -> None:
        at_least(0, epochs=epochs)
        check("floor", floor, 0 <= floor <= 1, "a number in [0, 1]")
        self.epochs, self.floor = epochs, floor
        # a tensor, which compiled code takes as an input: it would be compiled anew for every new number
        self.share = torch.tensor(self._share(0), dtype=torch.float64)

    def at_epoch(self, epoch: int) -> Objective:
        """Return the objective with the weights of an epoch, the query loss alone once they have ended."""
        if epoch >= self.epochs:
            return QueryLoss()
        now = MultiStepLoss(self.epochs, self.floor)
        now.share = torch.tensor(self._share(epoch), dtype=torch.float64)
        return now

    def weights(self, steps: int) -> Tensor:
        """Return v ``[steps]``, at least one of them."""
        early = (self.share / steps).expand(steps - 1)
        return torch.cat([early, 1 - early.sum(dim=0, keepdim=True)])

    def measure(self, task: LearnedTask) -> Params:
        """Return the query loss after each inner step, ``[T]``; without inner steps the loss at the start, ``[1]``."""
        path = task.path[1:] or task.path
        return {"step_losses": torch.stack([task.loss(adapted, task.query) for adapted in path])}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean over tasks of the weighted sum over steps."""
        losses = outcome.measured["step_losses"].mean(dim=0)
        return self.weights(len(losses)).to(losses) @ losses

    def _share(self, epoch: int) -> float:
        """Return what is left of the weight 1/T of a step before the last."""
        return max(1 - epoch / self.epochs, self.floor) if epoch < self.epochs else 0.0
