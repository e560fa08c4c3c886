"""Environments of one process, which advance one after another. Imported only where gymnasium is installed."""

from collections import defaultdict
from collections.abc import Hashable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from metalit.environments.family import Family

TERMINATED, TRUNCATED = 1.0, 2.0  # how a trajectory has ended; 0 if it has not


class Share(gymnasium.Env):  # type: ignore[misc]  # gymnasium has no types here
    """Some of the trajectories of a batch, as one environment of gymnasium's vector environments.

    Its observation is a table with a row for each trajectory: the observation, the reward, and how it has ended. A
    trajectory that has ended keeps its last observation, is rewarded with 0 and costs no time. Environments are made
    when they are first needed, and used again.

    Args:
        family: makes the environments.
        size: trajectories at most.
        observation_space: of one environment.
        action_space: of one environment.

    Attributes:
        plan: seeds ``[m]`` and tasks ``[m, P]`` of the trajectories that the next ``reset`` begins, m <= size.
    """

    def __init__(self, family: Family, size: int, observation_space: Any, action_space: Any) -> None:
        self.family, self.size = family, size
        self.inner_observations, self.inner_actions = observation_space, action_space
        self.discrete = isinstance(action_space, gymnasium.spaces.Discrete)
        self.is_vector = isinstance(observation_space, gymnasium.spaces.Box) and len(observation_space.shape) == 1
        columns = gymnasium.spaces.flatdim(observation_space) + 2
        entries = 1 if self.discrete else gymnasium.spaces.flatdim(action_space)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size, columns), np.float64)
        self.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (size, entries), np.float64)
        self.plan: tuple[NDArray[np.int64], NDArray[np.float64]] = np.zeros(0, np.int64), np.zeros((0, 0))
        self.table = np.zeros((size, columns))
        self.environments: list[Any] = []  # of the current trajectories
        self.keys: list[Hashable] = []  # of the environments
        self.running: list[int] = []  # places of the trajectories that have not ended
        self.tasks = self.plan[1]
        self.idle: defaultdict[Hashable, list[Any]] = defaultdict(list)

    def reset(self, **_: Any) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Begin the trajectories of ``plan``."""
        seeds, self.tasks = self.plan
        self.take(self.tasks)
        self.table[:] = 0
        for place, (environment, seed) in enumerate(zip(self.environments, seeds, strict=True)):
            self.family.apply(environment, self.tasks[place])
            self.note(place, environment.reset(seed=int(seed))[0])
        self.running = list(range(len(seeds)))
        return self.table, {}

    def step(self, action: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Take one action ``[size, entries]`` in every trajectory that has not ended."""
        actions = self.as_received(action)
        self.table[:, -2] = 0
        ended = False
        for place in self.running:
            observation, reward, terminated, truncated, info = self.environments[place].step(actions[place])
            self.note(place, observation)
            self.table[place, -2] = self.family.reward(reward, actions[place], info, self.tasks[place])
            if terminated or truncated:
                self.table[place, -1] = TERMINATED if terminated else TRUNCATED
                ended = True
        if ended:
            self.running = [place for place in self.running if not self.table[place, -1]]
        return self.table, 0.0, False, False, {}

    def close(self) -> None:
        """Close all environments."""
        for environment in [*self.environments, *(each for kept in self.idle.values() for each in kept)]:
            environment.close()
        self.environments, self.idle = [], defaultdict(list)

    def as_received(self, action: NDArray[np.float64]) -> Any:
        """Return a list of actions as the environments take them."""
        if self.discrete:
            return [int(each) + int(self.inner_actions.start) for each in action[:, 0]]
        return action.astype(self.inner_actions.dtype).reshape(self.size, *self.inner_actions.shape)

    def note(self, place: int, observation: Any) -> None:
        """Write an observation into the table, as a vector."""
        if not self.is_vector:
            observation = gymnasium.spaces.flatten(self.inner_observations, observation)
        self.table[place, :-2] = observation

    def take(self, tasks: NDArray[np.float64]) -> None:
        """Choose an environment for every task, and close those that are not likely to be used again."""
        for environment, key in zip(self.environments, self.keys, strict=True):
            self.idle[key].append(environment)
        self.keys = [self.family.key(task) for task in tasks]
        self.environments = [
            self.idle[key].pop() if self.idle[key] else self.family.make(task)
            for key, task in zip(self.keys, tasks, strict=True)
        ]
        # keywords of a constructor make a key for each task, whose environments are seldom needed again
        left = [(key, environment) for key, kept in self.idle.items() for environment in kept]
        surplus = max(0, len(left) - self.size)
        self.idle = defaultdict(list)
        for number, (key, environment) in enumerate(left):
            if number < surplus:
                environment.close()
            else:
                self.idle[key].append(environment)
