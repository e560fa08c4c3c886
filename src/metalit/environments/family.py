"""What is asked of single environments in gymnasium's form, wherever they run."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Task = NDArray[np.float64]  # [P], the parameters of one task


class Family(ABC):
    """Environments that differ by their parameters; a value that worker processes receive.

    Attributes:
        name: for messages.
    """

    name: str

    @abstractmethod
    def make(self, task: Task) -> Any:
        """Return a new ``gymnasium.Env`` that can become the task's by ``apply``; it has no time limit."""

    @abstractmethod
    def key(self, task: Task) -> Hashable:
        """Return what ``make`` has decided: an environment serves all tasks with the same key."""

    @abstractmethod
    def apply(self, environment: Any, task: Task) -> None:
        """Give an environment the parameters of a task, before it is reset."""

    @abstractmethod
    def reward(self, reward: float, action: NDArray[Any], info: dict[str, Any], task: Task) -> float:
        """Return the reward of a step in the task.

        Args:
            reward: as the environment returned it.
            action: as the environment received it, after clipping.
            info: as the environment returned it.
            task: ``[P]``.
        """
