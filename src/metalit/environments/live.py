"""Environments that keep their own state, as those of gymnasium do: many of them behind the interface of one.

Legend: B tasks, n trajectories of each, S the length of an observation, P parameters of a task.
"""

import copy
import math
import os
import weakref
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metalit.environments.base import ActionSpace, Environment, Transition
from metalit.environments.family import Family, Task
from metalit.environments.optional import needs_extra
from metalit.errors import UserError, at_least, check
from metalit.tasks.keyed_draws import KeyedDraws

TIMEOUT = 5  # seconds for worker processes to end by themselves


class Live(NamedTuple):
    """A moment of running environments.

    Attributes:
        observations: ``[B, n, S]``.
        run: number of the ``begin`` that it descends from.
        time: steps since then.
        broken: whether a number was not finite, after which nothing moves.
    """

    observations: Tensor
    run: int
    time: int
    broken: bool


class LiveEnvironment(Environment, ABC):
    """Environments with a state of their own, on gymnasium's vector environments.

    A state is no value here but a moment of the one set of running environments: ``step`` takes the newest state only,
    and ``begin`` ends all trajectories before it. Trajectories are values all the same: each environment is reset with
    a seed that its task's random numbers determine, so the same policy and seeds give the same trajectories, with any
    number of workers and beside any other tasks.

    Args:
        family: makes single environments.
        example: parameters of a task, ``[P]``, to look at one environment.
        horizon: H. A longer trajectory is cut off there, as one that has ended.
        rescale: actions in [-1, 1] are mapped to the bounds of the environment's, where it has bounds.
        truncation: an environment that truncates a trajectory before the horizon is an ``error``, or its ``end``, as if
            nothing more could be had from there.
        workers: processes that share the environments; 0 to run them in this one.

    Raises:
        UserError: gymnasium is missing; actions are neither a box nor discrete.
        SettingError: a number is out of range.
    """

    def __init__(
        self, family: Family, example: Task, horizon: int, rescale: bool, truncation: str, workers: int
    ) -> None:
        at_least(1, horizon=horizon)
        at_least(0, workers=workers)
        check("truncation", truncation, truncation in ("error", "end"), "error or end")
        self.family, self.horizon, self.workers = family, horizon, workers
        self.rescale, self.truncation = rescale, truncation
        self._look(example)
        self._run, self._time, self._capacity = 0, 0, 0
        self._vector: Any = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    @abstractmethod
    def rows(self, parameters: Any) -> Tensor:
        """Return the parameters of tasks as a table, ``[B, P]``."""

    def begin(self, parameters: Any, trajectories: int, draws: KeyedDraws) -> Live:
        """Reset the environments, each with its own seed."""
        seeds, rows = draws.integers(trajectories).cpu().numpy(), self.rows(parameters).double().cpu().numpy()
        rows = rows.repeat(trajectories, axis=0)
        self._grow(len(rows))
        count = max(self.workers, 1)
        size = self._capacity // count
        cuts = range(size, size * count, size)
        plans = zip(np.split(seeds.reshape(-1), cuts), np.split(rows, cuts), strict=True)
        self._vector.set_attr("plan", list(plans))
        table, _ = self._vector.reset()
        self._run, self._time, self._shape, self._dtype = self._run + 1, 0, tuple(seeds.shape), draws.dtype
        self._device = tree_leaves(parameters)[0].device
        values = self._rows_of(table)
        return Live(self._tensor(values[:, :-2]), self._run, 0, not np.isfinite(values).all())

    def observe(self, parameters: Any, state: Live) -> Tensor:
        """Return observations ``[B, n, S]``."""
        return state.observations

    def step(self, parameters: Any, state: Live, actions: Tensor, draws: KeyedDraws) -> Transition:
        """Advance all environments, in which the actions are clipped to their bounds."""
        assert state[1:3] == (self._run, self._time), "only the newest state of running environments can be stepped"
        self._time += 1
        received = self._as_received(actions)
        if state.broken or not np.isfinite(received).all():  # MuJoCo would write a log file, others might fail
            nothing = torch.zeros_like(state.observations[..., 0])
            after = state._replace(time=self._time, broken=True)
            return Transition(after, nothing, torch.ones_like(nothing, dtype=torch.bool))
        table, *_ = self._vector.step(received)
        values = self._rows_of(table)
        self._check_truncation(values[:, -1])
        after = Live(self._tensor(values[:, :-2]), self._run, self._time, not np.isfinite(values).all())
        return Transition(after, self._tensor(values[:, -2]), self._tensor(values[:, -1]) > 0)

    def that_renders(self) -> Self:
        """Return a copy that can ``render``; it runs in this process."""
        other = copy.copy(self)
        other.family, other.workers = self.family.that_renders(), 0
        return other

    def render(self) -> Any:
        """Return a picture of the first trajectory of the first task, as its environment renders it."""
        return self._vector.envs[0].environments[0].render()

    def close(self) -> None:
        """Close all environments and end their processes; the next ``begin`` makes new ones."""
        if self._finalizer is not None:
            self._finalizer()
        self._vector, self._finalizer, self._capacity = None, None, 0

    def __getstate__(self) -> dict[str, Any]:
        """Return the environment without what is running."""
        return {**self.__dict__, "_vector": None, "_finalizer": None, "_capacity": 0}

    def _look(self, example: Task) -> None:
        """Read observations and actions off one environment."""
        with needs_extra(self.family.name):
            from gymnasium import spaces  # optional, and seconds to import
        environment = self.family.make(example)
        try:
            self.family.apply(environment, example)
            self._observation_box, self._action_box = environment.observation_space, environment.action_space
        finally:
            environment.close()
        self.observation_size = spaces.flatdim(self._observation_box)
        if isinstance(self._action_box, spaces.Discrete):
            self.action_space = ActionSpace(int(self._action_box.n), discrete=True)
        elif isinstance(self._action_box, spaces.Box):
            self.action_space = ActionSpace(math.prod(self._action_box.shape), discrete=False)
            self._low, self._high = self._action_box.low.reshape(-1), self._action_box.high.reshape(-1)
        else:
            raise UserError(
                f"the actions of {self.family.name} are {type(self._action_box).__name__}, expected Box or Discrete"
            )

    def _grow(self, needed: int) -> None:
        """Make room for trajectories."""
        if needed <= self._capacity:
            return
        self.close()
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

        from metalit.environments.share import Share

        count = max(self.workers, 1)
        size = -(-needed // count)
        makers = [partial(Share, self.family, size, self._observation_box, self._action_box)] * count
        settings = {"copy": False, "autoreset_mode": AutoresetMode.DISABLED}
        # forkserver: torch's threads do not survive a fork
        self._vector = (
            AsyncVectorEnv(makers, context="forkserver", **settings)
            if self.workers
            else SyncVectorEnv(makers, **settings)
        )
        self._capacity = size * count
        self._finalizer = weakref.finalize(self, close_own, self._vector, os.getpid())

    def _as_received(self, actions: Tensor) -> NDArray[np.float64]:
        """Return actions as the environments take them, ``[workers, size, entries]``."""
        flat = actions.reshape(math.prod(self._shape), -1).double().cpu().numpy()
        if not self.action_space.discrete:
            bounded = np.isfinite(self._low) & np.isfinite(self._high)
            if self.rescale:
                middle, half = (self._low + self._high) / 2, (self._high - self._low) / 2
                flat = np.where(bounded, middle + half * flat, flat)
            flat = flat.clip(self._low, self._high)
        table = np.zeros((self._capacity, flat.shape[1]))
        table[: len(flat)] = flat
        return table.reshape(max(self.workers, 1), -1, flat.shape[1])

    def _rows_of(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the rows of the trajectories of what all workers returned."""
        return table.reshape(self._capacity, -1)[: math.prod(self._shape)]

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        """Return values ``[B n, ...]`` as a tensor ``[B, n, ...]``; a copy, as the next step overwrites the table."""
        return torch.tensor(values, dtype=self._dtype, device=self._device).reshape(*self._shape, *values.shape[1:])

    def _check_truncation(self, ends: NDArray[np.float64]) -> None:
        """Refuse a trajectory that was cut off before the horizon."""
        if self.truncation == "error" and self._time < self.horizon and (ends == 2).any():
            raise UserError(
                f"{self.family.name} truncated a trajectory after {self._time} of {self.horizon} steps: set horizon to "
                f"{self._time}, or truncation to end, which counts this as the end of the trajectory"
            )


def close_own(vector: Any, process: int) -> None:
    """Close environments, unless this is a forked process, whose copy would end the workers of its parent."""
    if os.getpid() == process:
        vector.close(timeout=TIMEOUT)
