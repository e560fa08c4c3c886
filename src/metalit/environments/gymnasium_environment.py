"""Any environment of gymnasium whose parameters distinguish the tasks."""

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalit.environments.family import Family, Task
from metalit.environments.live import LiveEnvironment
from metalit.environments.ranges import Range, checked_ranges
from metalit.environments.registered import close_names, make_registered, time_limit
from metalit.errors import UserError, check


class GymnasiumEnvironment(LiveEnvironment):
    """An environment of gymnasium, with parameters that are drawn for each task.

    A parameter is set in one of three ways: as an ``attribute`` of the unwrapped environment, whose name may be a path
    (``g``, ``model.opt.timestep``, ``model.body_mass.1`` for an entry of an array); as a ``keyword`` of its
    constructor; or by one call of a ``method`` with a dictionary of all parameters. Observations that are no vector are
    flattened as ``gymnasium.spaces.flatten`` does.

    Args:
        environment: an id, such as ``Pendulum-v1``, or a function that makes an environment.
        parameters: ``[low, high]`` of each parameter that is uniform in a range.
        choices: values of each parameter that has one of several, all equally likely.
        set_by: ``attribute``, ``keyword`` or ``method``.
        method: name of the method, of the unwrapped environment.
        settings: further keyword arguments of the constructor.
        horizon: H; if not given, the time limit that the environment is registered with, which it replaces.
        rescale: actions in [-1, 1] are mapped to the bounds of the environment's. Actions are clipped to them anyway.
        truncation: what it means if the environment itself truncates a trajectory before the horizon: an ``error``, or
            its ``end``, after which nothing can be had.
        workers: processes that share the environments; 0 to run them in this one.

    Raises:
        UserError: gymnasium is missing; there is no such environment, or it has no such parameter.
        SettingError: there is no parameter, or no horizon, or a value is invalid.
    """

    def __init__(
        self,
        environment: str | Callable[..., Any],
        parameters: dict[str, Range] | None = None,
        choices: dict[str, list[float]] | None = None,
        set_by: Literal["attribute", "keyword", "method"] = "attribute",
        method: str = "set_task",
        settings: dict[str, Any] | None = None,
        horizon: int | None = None,
        rescale: bool = True,
        truncation: Literal["error", "end"] = "error",
        workers: int = 0,
    ) -> None:
        self.ranges, self.choices = checked_ranges(parameters or {}), choices or {}
        names = [*self.ranges, *self.choices]
        check("parameters", parameters or {}, bool(names), "at least one, by which tasks differ: {name: [low, high]}")
        for name, values in self.choices.items():
            check("choices", self.choices, bool(values) and name not in self.ranges, f"values of {name}, given once")
        family = Parametrised(environment, names, set_by, method, settings or {})
        if horizon is None and isinstance(environment, str):
            horizon = time_limit(environment)
        example = np.array(
            [*(low for low, _ in self.ranges.values()), *(values[0] for values in self.choices.values())]
        )
        family.look(example)
        # without this, a trajectory might never end
        check("horizon", horizon, horizon is not None, f"a number of steps: {family.name} has no time limit of its own")
        assert horizon is not None
        self.numbers_per_task, self.label = len(names), f"GymnasiumEnvironment ({family.name})"
        super().__init__(family, example, horizon, rescale, truncation, workers)

    def parameters(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return the value of each parameter, ``[B]``."""
        columns = dict(zip([*self.ranges, *self.choices], numbers.unbind(dim=1), strict=True))
        drawn = {name: low + (high - low) * columns[name] for name, (low, high) in self.ranges.items()}
        for name, values in self.choices.items():
            place = (columns[name] * len(values)).long().clamp(max=len(values) - 1)
            drawn[name] = numbers.new_tensor(values)[place]
        return drawn

    def rows(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return the parameters as a table, ``[B, P]``."""
        return torch.stack([parameters[name] for name in (*self.ranges, *self.choices)], dim=1)


class Parametrised(Family):
    """Environments by id or function, with parameters by name.

    Args:
        environment: as for ``GymnasiumEnvironment``; so are the others.
        names: of the parameters.
        set_by: how they are set.
        method: by which they are set, if they are set by one.
        settings: further keyword arguments.
    """

    def __init__(
        self,
        environment: str | Callable[..., Any],
        names: Sequence[str],
        set_by: str,
        method: str,
        settings: Mapping[str, Any],
    ) -> None:
        self.environment, self.names, self.set_by, self.method = environment, list(names), set_by, method
        self.settings = dict(settings)
        self.name = environment if isinstance(environment, str) else getattr(environment, "__name__", "the environment")

    def make(self, task: Task) -> Any:
        """Return a new environment."""
        settings = {**self.settings, **(self.of(task) if self.set_by == "keyword" else {}), **self.rendering}
        if isinstance(self.environment, str):
            return make_registered(self.environment, **settings)
        return self.environment(**settings)

    def key(self, task: Task) -> Hashable:
        """Return the keywords that the environment was made with."""
        return tuple(task) if self.set_by == "keyword" else None

    def apply(self, environment: Any, task: Task) -> None:
        """Set attributes, or call the method."""
        if self.set_by == "attribute":
            for name, value in self.of(task).items():
                owner, last = owner_of(environment.unwrapped, name)
                if last.isdecimal():
                    owner[int(last)] = value
                else:
                    setattr(owner, last, value)
        elif self.set_by == "method":
            getattr(environment.unwrapped, self.method)(self.of(task))

    def reward(self, reward: float, action: NDArray[Any], info: dict[str, Any], task: Task) -> float:
        """Return the environment's own reward."""
        return reward

    def of(self, task: Task) -> dict[str, float]:
        """Return parameters by name."""
        return dict(zip(self.names, task.tolist(), strict=True))

    def look(self, example: Task) -> None:
        """Refuse parameters that the environment does not have.

        Raises:
            UserError: one is missing, or is no number.
        """
        if self.set_by == "keyword" and not isinstance(self.environment, str):
            self.check_keywords(self.environment)
        environment = self.make(example)
        try:
            for name in self.names if self.set_by == "attribute" else []:
                self.check_attribute(environment.unwrapped, name)
            if self.set_by == "method" and not callable(getattr(environment.unwrapped, self.method, None)):
                raise UserError(f"{self.name} has no method {self.method} to set its parameters by")
        finally:
            environment.close()

    def check_keywords(self, function: Callable[..., Any]) -> None:
        """Refuse a parameter that the function does not take."""
        known = inspect.signature(function).parameters
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
            return
        for name in self.names:
            if name not in known:
                raise UserError(f"{self.name} has no keyword {name}{close_names(name, list(known))}")

    def check_attribute(self, environment: Any, name: str) -> None:
        """Refuse an attribute path that does not lead to a number."""
        try:
            owner, last = owner_of(environment, name)
            value = owner[int(last)] if last.isdecimal() else getattr(owner, last)
        except (AttributeError, IndexError, TypeError) as error:
            numbers = [key for key, value in vars(environment).items() if type(value) in (int, float)]
            similar = close_names(name, numbers) or f"; its numbers: {', '.join(sorted(numbers))}"
            raise UserError(f"{self.name} has no attribute {name}{similar}") from error
        if np.ndim(value) != 0 or isinstance(value, str | bool) or value is None:
            raise UserError(f"the attribute {name} of {self.name} is {value!r}, but a parameter is one number")


def owner_of(environment: Any, path: str) -> tuple[Any, str]:
    """Return the object whose attribute, or entry, is at the end of a path, and its name or number there."""
    *way, last = path.split(".")
    for step in way:
        environment = environment[int(step)] if step.isdecimal() else getattr(environment, step)
    return environment, last
