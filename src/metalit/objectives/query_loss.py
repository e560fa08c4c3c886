"""The mean query loss, the meta-loss of most papers."""

from torch import Tensor

from metalit.objectives.base import Objective
from metalit.outcome import Outcome


class QueryLoss(Objective):
    """The mean query loss over tasks: (1/B) sum_b L_query,b."""

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean of ``outcome.loss``."""
        return outcome.loss.mean()
