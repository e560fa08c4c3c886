"""The interface of environments: many trajectories of many tasks advance together.

Legend: B tasks, n trajectories of each, H time steps.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor

from metalit.tasks.keyed_draws import KeyedDraws


class ActionSpace(NamedTuple):
    """The actions that an environment takes.

    Attributes:
        size: length of an action, or the number of discrete actions.
        discrete: whether an action is one of ``size`` numbers.
    """

    size: int
    discrete: bool


class Transition(NamedTuple):
    """The result of one time step.

    Attributes:
        state: the new state.
        rewards: ``[B, n]``.
        done: ``[B, n]`` bool, whether the trajectory has ended with this step.
    """

    state: Any
    rewards: Tensor
    done: Tensor


class Environment(ABC):
    """A family of environments; a task is one setting of its parameters.

    A state is a value: ``step`` returns a new one, a function of the old one, the actions and random numbers that the
    keys of the tasks determine. Trajectories therefore do not depend on what else is computed, or on the rank.

    Attributes:
        observation_size: length of an observation.
        action_space: the actions.
        horizon: H, the number of time steps after which every trajectory ends.
        numbers_per_task: random numbers from which the parameters of one task are made.
        label: its name in messages; None for that of its class.
    """

    observation_size: int
    action_space: ActionSpace
    horizon: int
    numbers_per_task: int
    label: str | None = None

    @abstractmethod
    def parameters(self, numbers: Tensor) -> Any:
        """Return the parameters of tasks, a pytree of tensors ``[B, ...]``.

        Args:
            numbers: uniform in [0, 1), ``[B, numbers_per_task]``; their dtype is that of the parameters.
        """

    @abstractmethod
    def begin(self, parameters: Any, trajectories: int, draws: KeyedDraws) -> Any:
        """Return the first state of every trajectory.

        Args:
            parameters: the tasks', a pytree ``[B, ...]``.
            trajectories: n.
            draws: the tasks' random numbers.
        """

    @abstractmethod
    def observe(self, parameters: Any, state: Any) -> Tensor:
        """Return observations ``[B, n, observation_size]``."""

    @abstractmethod
    def step(self, parameters: Any, state: Any, actions: Tensor, draws: KeyedDraws) -> Transition:
        """Return the state after one time step, and its rewards.

        Args:
            parameters: the tasks', a pytree ``[B, ...]``.
            state: as ``begin`` or ``step`` returned it.
            actions: ``[B, n, size]``, or ``[B, n]`` int64 if they are discrete.
            draws: the tasks' random numbers.
        """
