"""Inner loops over mini-batches of a task, and their optimisers."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.examples import count, one_per_example, selected
from metalit.tasks.task_context import uniform_like
from metalit.update_rules import SGD, UpdateRule
from metalit.update_rules.adam import Adam

# Reptile's Adam has no momentum
INNER_OPTIMIZERS: dict[str, Callable[[float], UpdateRule]] = {"adam": partial(Adam, beta1=0.0), "sgd": SGD}


def next_mini_batch(examples: Labelled, queue: Tensor, size: int | None) -> tuple[Labelled, Tensor]:
    """Return a mini-batch, drawn without replacement and reshuffled in each pass, and the rest of the queue.

    Batches are cut from the concatenated passes, so one batch may end a pass and begin the next. Shuffles are drawn by
    the task's random key (``TaskContext``).

    Args:
        examples: all examples of the task, ``x [S, ...]``, ``y [S, ...]``.
        queue: ``[waiting]`` int64, indices of the next examples; initially ``empty_queue``.
        size: number of examples per batch; all, unshuffled, if None or at least S.
    """
    # no draw in this case: the random numbers of the task stay those of a method without mini-batches
    if size is None or size >= count(examples):
        return examples, queue
    # the length of the queue depends on sizes alone, so the loop is the same for all tasks under ``vmap``
    while len(queue) < size:
        queue = torch.cat([queue, uniform_like(one_per_example(examples)).argsort()])
    return selected(examples, queue[:size]), queue[size:]


def empty_queue(examples: Labelled) -> Tensor:
    """Return an empty queue."""
    return one_per_example(examples)[:0].long()
