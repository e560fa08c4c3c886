"""How per-task results become one meta-loss."""

from abc import ABC, abstractmethod

from torch import Tensor

from metalit.outcome import Outcome


class Objective(ABC):
    """A pure function from the outcome of all tasks to the scalar that training minimises."""

    @abstractmethod
    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the 0-d meta-loss."""
