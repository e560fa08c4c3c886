"""Inner loops over mini-batches of a task, and their optimisers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.examples import count, one_per_example, selected
from metalit.tasks.task_context import uniform_like
from metalit.update_rules import SGD, UpdateRule
from metalit.update_rules.adam import Adam

# Reptile's Adam has no momentum
INNER_OPTIMIZERS: dict[str, Callable[[float], UpdateRule]] = {"adam": partial(Adam, beta1=0.0), "sgd": SGD}


class Passes(NamedTuple):
    """The pass over a padded task from which mini-batches are cut.

    Attributes:
        order: ``[S]`` int64, indices of the examples in the order of this pass, followed by those of padding.
        taken: 0-d int64, how many of them earlier batches have had.
    """

    order: Tensor
    taken: Tensor


def next_mini_batch(examples: Labelled, queue: Any, size: int | None) -> tuple[Labelled, Any]:
    """Return a mini-batch, drawn without replacement and reshuffled in each pass, and the rest of the queue.

    Batches are cut from the concatenated passes, so one batch may end a pass and begin the next. Shuffles are drawn by
    the task's random key (``TaskContext``).

    Args:
        examples: all examples of the task, ``x [S, ...]``, ``y [S, ...]``.
        queue: ``[waiting]`` int64, indices of the next examples, or ``Passes`` of a padded task; initially
            ``empty_queue``.
        size: number of examples per batch; all, unshuffled, if None or at least S.
    """
    # no draw in this case: the random numbers of the task stay those of a method without mini-batches
    if size is None or size >= count(examples):
        return examples, queue
    if examples.mask is not None:
        return padded_mini_batch(examples, queue, size)
    # the length of the queue depends on sizes alone, so the loop is the same for all tasks under ``vmap``
    while len(queue) < size:
        queue = torch.cat([queue, uniform_like(one_per_example(examples)).argsort()])
    return selected(examples, queue[:size]), queue[size:]


def padded_mini_batch(examples: Labelled, passes: Passes, size: int) -> tuple[Labelled, Passes]:
    """Return a mini-batch of a padded task, of all its examples if they are fewer than ``size``, and the rest."""
    assert examples.mask is not None
    places, known, device = len(examples.mask), examples.mask.sum(), examples.mask.device
    # drawn at each step, since under ``vmap`` the end of a pass, which differs between tasks, cannot decide it
    following = (uniform_like(one_per_example(examples)) + 2 * ~examples.mask).argsort()
    place = passes.taken + torch.arange(size, device=device)
    now, then = passes.order.gather(0, place.clamp(max=places - 1)), (place - known).clamp(0, places - 1)
    rows = torch.where(place < known, now, following.gather(0, then))
    drawn = known.clamp(max=size)
    taken = passes.taken + drawn
    rest = Passes(torch.where(taken < known, passes.order, following), torch.where(taken < known, taken, taken - known))
    batch = selected(examples, rows)
    return batch._replace(mask=torch.arange(size, device=device) < drawn), rest


def empty_queue(examples: Labelled) -> Any:
    """Return an empty queue, for a padded task one whose pass is over."""
    nothing = one_per_example(examples).long()
    return nothing[:0] if examples.mask is None else Passes(nothing, examples.mask.sum())
