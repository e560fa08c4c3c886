"""Films of trajectories, in environments that can render."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metalit.environments.base import Environment, Transition
from metalit.environments.live import Live, LiveEnvironment
from metalit.errors import UserError
from metalit.tasks.keyed_draws import KeyedDraws

Picture = NDArray[np.uint8]  # [height, width, 3]


class CannotRenderError(UserError):
    """An environment that makes no pictures, with the reason."""


@dataclass
class Take:
    """What one trajectory looked like.

    Attributes:
        pictures: uint8 ``[height, width, 3]``, the first before the first step.
        times: steps before each picture.
        total: sum of the rewards.
        ended: whether the trajectory has ended before the horizon.
    """

    pictures: list[Picture] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    total: float = 0.0
    ended: bool = False


class Filmed(Environment):
    """A live environment that films the first trajectory of the first task, and is otherwise the same.

    It runs a copy of the environment, in this process, whose trajectories are those of the original with the same seeds
    and actions. Every ``begin`` starts a new take.

    Args:
        environment: to film.
        pictures: of a full-length trajectory, at most, beside that of its start; they are evenly spaced in time.

    Attributes:
        takes: one for each ``begin``.
    """

    def __init__(self, environment: LiveEnvironment, pictures: int) -> None:
        self.live = environment.that_renders()
        self.observation_size, self.action_space = environment.observation_size, environment.action_space
        self.horizon, self.numbers_per_task = environment.horizon, environment.numbers_per_task
        self.label = self.name = environment.label or type(environment).__name__
        self.every = -(-environment.horizon // pictures)
        self.takes: list[Take] = []

    def parameters(self, numbers: Tensor) -> Any:
        """Return the parameters of tasks."""
        return self.live.parameters(numbers)

    def begin(self, parameters: Any, trajectories: int, draws: KeyedDraws) -> Live:
        """Begin a take.

        Raises:
            CannotRenderError: no environment can be made that renders, or it returns no picture.
        """
        with cannot_render(self.name):
            # OpenGL draws in one context at a time, and the first trajectory may get another environment than before
            self.live.close()
            state = self.live.begin(parameters, trajectories, draws)
        self.takes.append(Take())
        self._shoot(0)
        return state

    def observe(self, parameters: Any, state: Live) -> Tensor:
        """Return observations ``[B, n, observation_size]``."""
        return self.live.observe(parameters, state)

    def step(self, parameters: Any, state: Live, actions: Tensor, draws: KeyedDraws) -> Transition:
        """Advance all trajectories, and film the first.

        Raises:
            CannotRenderError: the environment returns no picture.
        """
        result = self.live.step(parameters, state, actions, draws)
        take, time, over = self.takes[-1], result.state.time, bool(result.done[0, 0])
        if not take.ended:
            take.total += result.rewards[0, 0].item()
            take.ended = over and time < self.horizon
            if over or time % self.every == 0:
                self._shoot(time)
        return result

    def close(self) -> None:
        """Close all environments."""
        self.live.close()

    def _shoot(self, time: int) -> None:
        with cannot_render(self.name):
            picture = np.array(self.live.render())  # a copy: some environments draw into the same array again
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise TypeError(f"render returned {picture.dtype} {list(picture.shape)}, not a picture [h, w, 3] uint8")
        self.takes[-1].pictures.append(picture)
        self.takes[-1].times.append(time)


@contextmanager
def cannot_render(name: str) -> Iterator[None]:
    """Turn an error of rendering into a reason: drivers fail in many ways, and a film is not worth a test's end."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # drivers warn before they fail
            yield
    except Exception as error:
        first, *_ = str(error).splitlines() or [""]
        raise CannotRenderError(f"{name} does not render ({type(error).__name__}: {first})") from error
