"""How per-task results become one meta-loss."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from metalit.outcome import Outcome


class Objective(ABC):
    """A pure function from the outcome of all tasks to the scalar that training minimises.

    Attributes:
        over_all_tasks: whether the objective compares tasks with one another, instead of being a mean of a term per
            task. Where several processes train together it is then given the outcomes of all their tasks, not only
            those of one process; running statistics are left out.
    """

    over_all_tasks: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the 0-d meta-loss."""
