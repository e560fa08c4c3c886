"""Mini-batches within a task."""

import torch
from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.examples import count, one_per_example, selected
from metalit.tasks.task_context import uniform_like


def next_mini_batch(examples: Labelled, queue: Tensor, size: int | None) -> tuple[Labelled, Tensor]:
    """Return a mini-batch and what is left of the queue: without replacement, shuffled anew for each pass.

    Batches are cut from one pass after another, so one batch may end a pass and begin the next. The shuffles are the
    task's own (``TaskContext``).

    Args:
        examples: all examples of the task, ``x [S, ...]``, ``y [S, ...]``.
        queue: ``[waiting]`` int64, which examples come next; empty, as from ``empty_queue``, at the beginning.
        size: examples in a batch; all, in their order, if it is S or more, or not given.
    """
    if size is None or size >= count(examples):
        return examples, queue
    while len(queue) < size:
        queue = torch.cat([queue, uniform_like(one_per_example(examples)).argsort()])
    return selected(examples, queue[:size]), queue[size:]


def empty_queue(examples: Labelled) -> Tensor:
    """Return a queue in which nothing waits."""
    return one_per_example(examples)[:0].long()
