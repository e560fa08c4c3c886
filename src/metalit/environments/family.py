"""What is asked of single environments in gymnasium's form, wherever they run."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Task = NDArray[np.float64]  # [P], the parameters of one task
SIZE = {"width": 240, "height": 180}  # pixels of MuJoCo's pictures; twice as many take half as long again


class Family(ABC):
    """Environments that differ by their parameters; a value that worker processes receive.

    Attributes:
        name: for messages.
        picture: keyword arguments that set the size of pictures, or the camera; none to leave them to the environment.
        rendering: keyword arguments with which ``make`` makes environments that render; none for those that do not.
    """

    name: str
    picture: Mapping[str, Any] = {}
    rendering: Mapping[str, Any] = {}

    def that_renders(self) -> Self:
        """Return a copy whose environments' ``render`` returns a picture, uint8 ``[height, width, 3]``."""
        other = copy.copy(self)
        other.rendering = {"render_mode": "rgb_array", **self.picture}
        return other

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
