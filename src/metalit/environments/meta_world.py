"""Meta-World: a robot arm that handles objects (Yu et al. 2020, https://arxiv.org/abs/1910.10897)."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalit.environments.family import SIZE, Family, Task
from metalit.environments.live import LiveEnvironment
from metalit.environments.optional import needs_extra
from metalit.environments.registered import close_names
from metalit.errors import SettingError, check

LONGEST = 500  # steps, Meta-World's own limit


class MetaWorld(LiveEnvironment):
    """The benchmarks ML1 and ML10 of Meta-World, whose goals are hidden from the policy.

    A task is an activity with a position of its object and goal, one of 50. Training and validation tasks are those of
    the benchmark's training set; for its test tasks give ``data.test_environment`` the same environment with
    ``split: test``. In ML10 the activities of training and test differ. Needs ``pip install 'metalit[rl]'``.

    Args:
        benchmark: ``ML1`` or ``ML10``.
        activity: of ML1, such as ``reach-v3``.
        split: whose tasks are drawn: ``train`` or ``test``.
        seed: of the benchmark's positions.
        horizon: H, at most 500.
        workers: processes that share the robots; 0 to run them in this one.

    Raises:
        UserError: Meta-World is missing.
        SettingError: there is no such activity, or a number is out of range.
    """

    numbers_per_task = 1

    def __init__(
        self,
        benchmark: Literal["ML1", "ML10"] = "ML1",
        activity: str = "reach-v3",
        split: Literal["train", "test"] = "train",
        seed: int = 0,
        horizon: int = LONGEST,
        workers: int = 0,
    ) -> None:
        check("horizon", horizon, horizon <= LONGEST, f"at most {LONGEST}, where Meta-World ends a trajectory")
        with needs_extra("MetaWorld"):
            import metaworld
        if benchmark == "ML1":
            if activity not in metaworld.ML1.ENV_NAMES:
                close = close_names(activity, list(metaworld.ML1.ENV_NAMES))
                raise SettingError("activity", activity, f"an activity of Meta-World{close}")
            made = metaworld.ML1(activity, seed=seed)
        else:
            made = metaworld.ML10(seed=seed)
        first, last = made.train_tasks, made.test_tasks
        # the tasks of both sets, so that one environment can run either
        family = Activities(benchmark, {**made.train_classes, **made.test_classes}, [*first, *last])
        self.label = f"MetaWorld ({benchmark})"
        self.places = range(len(first)) if split == "train" else range(len(first), len(first) + len(last))
        super().__init__(family, np.zeros(1), horizon, rescale=True, truncation="error", workers=workers)

    def parameters(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return the number of each task in Meta-World's lists, ``task`` ``[B]`` int64."""
        place = (numbers[:, 0].double() * len(self.places)).long().clamp(max=len(self.places) - 1)
        return {"task": self.places.start + place}

    def rows(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return the numbers, ``[B, 1]``."""
        return parameters["task"][:, None].to(torch.float64)


class Activities(Family):
    """Meta-World's environments, one class for each activity.

    Args:
        name: for messages.
        classes: of environments, by activity.
        tasks: Meta-World's descriptions of tasks.
    """

    picture: Mapping[str, Any] = SIZE

    def __init__(self, name: str, classes: Mapping[str, type], tasks: list[Any]) -> None:
        self.name, self.classes, self.tasks = name, dict(classes), tasks

    def make(self, task: Task) -> Any:
        """Return a new environment of the task's activity."""
        return self.classes[self.key(task)](**self.rendering)

    def key(self, task: Task) -> str:
        """Return the activity."""
        return str(self.tasks[int(task[0])].env_name)

    def apply(self, environment: Any, task: Task) -> None:
        """Give the environment the positions of its object and goal."""
        environment.set_task(self.tasks[int(task[0])])

    def reward(self, reward: float, action: NDArray[Any], info: dict[str, Any], task: Task) -> float:
        """Return Meta-World's reward."""
        return float(reward)
