"""Films of a policy in a task, before it learns the task and after, and their files."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils._pytree import tree_leaves

from metalit.algorithms.reinforcement.base import PolicyLearner
from metalit.algorithms.reinforcement.policy_gradient import PolicyGradientMetaLearner
from metalit.data.environment_tasks import EnvironmentTasks
from metalit.environments import LiveEnvironment
from metalit.environments.filmed import Filmed
from metalit.episode import TaskBatch
from metalit.figures import Scene
from metalit.files import atomic_write

PICTURES = 50  # of a trajectory of full length
RATE = 10  # per second: at most 5 seconds
COLOURS = 128


def filmed(learner: PolicyLearner, data: EnvironmentTasks, task: TaskBatch) -> tuple[Scene, int]:
    """Return what the policy does in one task at each stage of learning it, and the steps between two pictures.

    The trajectories are those of a test: the same random numbers, and the same number of trajectories to learn from.

    Raises:
        CannotRenderError: the environment makes no pictures here.
    """
    assert isinstance(data.environment, LiveEnvironment)
    environment, set_up = Filmed(data.environment, PICTURES), copy.copy(data)
    set_up.environment, set_up.queries = environment, 1  # after adaptation, only the one that is filmed
    try:
        with learner.acting_in(set_up):
            learner.experience(task, training=False)
    finally:
        environment.close()
    takes = {stage_name(learner, number): take for number, take in enumerate(environment.takes)}
    return Scene(title_of(task), takes), environment.every


def stage_name(learner: PolicyLearner, number: int) -> str:
    """Return what happened before a stage of learning."""
    if not isinstance(learner, PolicyGradientMetaLearner):
        return f"episode {number + 1}"
    return f"after {number} step{'s' * (number > 1)}" if number else "before adaptation"


def title_of(task: TaskBatch) -> str:
    """Return the number of a task with its parameters, where each is one number."""
    parameters: Any = task.parameters
    is_simple = isinstance(parameters, dict) and all(leaf.numel() == 1 for leaf in tree_leaves(parameters))
    values = [f"{name} {value.item():.3g}" for name, value in parameters.items()] if is_simple else []
    return ", ".join([f"test task {task.index.item()}", *values])


def write_gif(path: Path, pictures: NDArray[np.uint8]) -> None:
    """Write pictures ``[F, height, width, 3]`` as an animation that repeats.

    All have one palette and no dithering: what stands still stays the same, which makes small files.
    """
    some = np.concatenate(pictures[:, ::3, ::3])  # of all pictures, one pixel in nine
    palette = Image.fromarray(some).quantize(COLOURS)
    first, *others = (Image.fromarray(each).quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures)
    with atomic_write(path) as file:
        first.save(file, "GIF", save_all=True, append_images=others, duration=1000 // RATE, loop=0)
