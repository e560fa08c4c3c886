"""Mini-batches of the inner loops of Reptile and FOML, of tasks of unequal size."""

import pytest
import torch
from torch.func import vmap

from metalit.algorithms.gradient.mini_batches import empty_queue, next_mini_batch
from metalit.episode import labelled
from metalit.tasks.task_context import TaskContext

PLACES = 8


def batches(known, size, steps, key=0):
    """The examples of each of the mini-batches of a task with ``known`` examples, -1 for padding."""
    examples = labelled(torch.arange(PLACES), torch.arange(PLACES), torch.arange(PLACES) < known)
    queue, drawn = empty_queue(examples), []
    for _ in range(steps):
        batch, queue = next_mini_batch(examples, queue, size)
        drawn.append(torch.where(batch.mask, batch.x, -1))
    return torch.stack(drawn)


@pytest.mark.parametrize("known", range(1, PLACES + 1))
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_each_pass_has_every_example_once(known, size):
    with TaskContext(torch.tensor(3), {}):
        drawn = batches(known, size, 3 * known)
    assert ((drawn >= 0).sum(dim=1) == min(size, known)).all()
    passes = drawn[drawn >= 0].split(known)
    assert len(passes) >= 3
    assert all(sorted(each.tolist()) == list(range(known)) for each in passes)
    if known > 3 > size:
        assert len({tuple(each.tolist()) for each in passes}) > 1


def test_tasks_of_different_size_are_drawn_side_by_side():
    known, keys = torch.tensor([2, 8, 5]), torch.tensor([4, 5, 6])

    def one(known, key):
        with TaskContext(key, {}):
            return batches(known, 3, 6)

    alone = torch.stack([one(*pair) for pair in zip(known, keys, strict=True)])
    assert vmap(one, randomness="different")(known, keys).equal(alone)
