"""Robots of MuJoCo that run at a given velocity or in a given direction (Finn, Abbeel and Levine 2017, section 5.3).

They are gymnasium's HalfCheetah-v5 and Ant-v5 with rewards of the task's own; velocities are changes of position over
time, along x.
"""

from abc import ABC
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metalit.environments.family import SIZE, Family, Task
from metalit.environments.live import LiveEnvironment
from metalit.environments.ranges import Range, checked_ranges, within
from metalit.environments.registered import make_registered


class Runner(Family):
    """A robot that runs.

    Args:
        name: of the environment, for messages.
        robot: its id.
        directed: a task is a direction, otherwise a velocity.
        effort: weight of the squared action as a cost.
        bonus: per step.
        contacts: whether forces of contact are a cost, as the robot's own environment counts them.
    """

    picture: Mapping[str, Any] = {**SIZE, "camera_name": "track"}  # a camera that follows the robot

    def __init__(self, name: str, robot: str, directed: bool, effort: float, bonus: float, contacts: bool) -> None:
        self.name, self.robot, self.directed = name, robot, directed
        self.effort, self.bonus, self.contacts = effort, bonus, contacts

    def make(self, task: Task) -> Any:
        """Return a new robot."""
        return make_registered(self.robot, **self.rendering)

    def key(self, task: Task) -> Hashable:
        """Return None: every robot can take every task."""
        return None

    def apply(self, environment: Any, task: Task) -> None:
        """Do nothing: a task differs by its reward."""

    def reward(self, reward: float, action: NDArray[Any], info: dict[str, Any], task: Task) -> float:
        """Return the reward of running as the task demands."""
        velocity, goal = info["x_velocity"], task[0]
        running = goal * velocity if self.directed else -abs(velocity - goal)
        contact = info["reward_contact"] if self.contacts else 0.0
        return float(running - self.effort * np.dot(action, action) + contact + self.bonus)


class VelocityTasks(LiveEnvironment, ABC):
    """Robots whose tasks are target velocities.

    Args:
        family: the robot.
        velocity: range of the target velocities.
        horizon: H.
        workers: processes that share the robots; 0 to run them in this one.
    """

    numbers_per_task = 1

    def __init__(self, family: Runner, velocity: Range, horizon: int, workers: int) -> None:
        self.ranges = checked_ranges({"velocity": velocity})
        super().__init__(family, np.zeros(1), horizon, rescale=True, truncation="error", workers=workers)

    def parameters(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return ``velocity``, ``[B]``."""
        return within(numbers, self.ranges)

    def rows(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return the velocities, ``[B, 1]``."""
        return parameters["velocity"][:, None]


class DirectionTasks(LiveEnvironment, ABC):
    """Robots whose tasks are directions, +1 or -1 along x with equal probability.

    Args:
        family: the robot.
        horizon: H.
        workers: processes that share the robots; 0 to run them in this one.
    """

    numbers_per_task = 1

    def __init__(self, family: Runner, horizon: int, workers: int) -> None:
        super().__init__(family, np.ones(1), horizon, rescale=True, truncation="error", workers=workers)

    def parameters(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return ``direction``, ``[B]``, 1 or -1."""
        return {"direction": 2.0 * (numbers[:, 0] < 0.5).to(numbers.dtype) - 1}

    def rows(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return the directions, ``[B, 1]``."""
        return parameters["direction"][:, None]


class HalfCheetahVelocity(VelocityTasks):
    """A cheetah in the plane that runs at a velocity g: the reward is -|v - g| - 0.05 |a|^2.

    An observation has 17 entries: position and angles without x, and their velocities. The authors' had three more, the
    position of the torso. Needs ``pip install 'metalit[rl]'``.

    Args:
        velocity: range of g, m/s.
        horizon: H.
        workers: processes that share the robots; 0 to run them in this one.

    Raises:
        UserError: gymnasium or MuJoCo is missing.
        SettingError: a number or range is invalid.
    """

    def __init__(self, velocity: Range = (0.0, 2.0), horizon: int = 200, workers: int = 0) -> None:
        super().__init__(half_cheetah("HalfCheetahVelocity", directed=False), velocity, horizon, workers)


class HalfCheetahDirection(DirectionTasks):
    """A cheetah in the plane that runs forwards or backwards, d = 1 or -1: the reward is d v - 0.05 |a|^2.

    Observations are those of ``HalfCheetahVelocity``. Needs ``pip install 'metalit[rl]'``.

    Args:
        horizon: H.
        workers: processes that share the robots; 0 to run them in this one.

    Raises:
        UserError: gymnasium or MuJoCo is missing.
        SettingError: a number is out of range.
    """

    def __init__(self, horizon: int = 200, workers: int = 0) -> None:
        super().__init__(half_cheetah("HalfCheetahDirection", directed=True), horizon, workers)


class AntVelocity(VelocityTasks):
    """A four-legged robot that runs at a velocity g along x; a trajectory ends when it falls.

    The reward is 1 - |v - g| + 0.05 - 0.005 |a|^2, minus 0.0005 times the squared forces of contact, clipped to
    [-1, 1]. Needs ``pip install 'metalit[rl]'``.

    Args:
        velocity: range of g, m/s.
        horizon: H.
        workers: processes that share the robots; 0 to run them in this one.

    Raises:
        UserError: gymnasium or MuJoCo is missing.
        SettingError: a number or range is invalid.
    """

    def __init__(self, velocity: Range = (0.0, 3.0), horizon: int = 200, workers: int = 0) -> None:
        super().__init__(ant("AntVelocity", directed=False), velocity, horizon, workers)


class AntDirection(DirectionTasks):
    """A four-legged robot that runs forwards or backwards along x, d = 1 or -1; a trajectory ends when it falls.

    The reward is d v + 0.05 - 0.005 |a|^2, minus 0.0005 times the squared forces of contact, clipped to [-1, 1].
    Needs ``pip install 'metalit[rl]'``.

    Args:
        horizon: H.
        workers: processes that share the robots; 0 to run them in this one.

    Raises:
        UserError: gymnasium or MuJoCo is missing.
        SettingError: a number is out of range.
    """

    def __init__(self, horizon: int = 200, workers: int = 0) -> None:
        super().__init__(ant("AntDirection", directed=True), horizon, workers)


def half_cheetah(name: str, directed: bool) -> Runner:
    """Return the cheetah, with the weights of the authors' code."""
    return Runner(name, "HalfCheetah-v5", directed, effort=0.05, bonus=0.0, contacts=False)


def ant(name: str, directed: bool) -> Runner:
    """Return the ant, with the weights of tristandeleu/pytorch-maml-rl: 0.05 for standing, 1 more with velocities."""
    return Runner(name, "Ant-v5", directed, effort=0.005, bonus=0.05 if directed else 1.05, contacts=True)
