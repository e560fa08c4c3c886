"""An episode as a sequence: what each row may know."""

import pytest
import torch

from metalit import Labelled
from metalit.algorithms.memory.sequence import accuracy_by_presentation, label_encoding, shuffled
from metalit.functional.sequence import delayed, past_and_present
from metalit.tasks import TaskContext

LABELS = torch.tensor([2, 0, 1, 0])
CODES = label_encoding(LABELS, 3, torch.float64)


def test_labels_are_told_as_one_hot_and_values_as_they_are():
    assert CODES.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 0, 0]]
    values = torch.randn(4, 2)
    assert torch.equal(label_encoding(values, None, torch.float64), values.double())


def test_delayed_codes_no_step_has_its_own_label():
    told = delayed(CODES)
    assert not told[0].any()
    assert torch.equal(told[1:], CODES)  # the last row is that of a query right after the support set


@pytest.mark.parametrize("delay", [1, 2, 4, 5])
def test_delayed_rows_stand_before_each_step_and_before_the_next(delay):
    steps = torch.randn(4, 3)
    expected = torch.cat([torch.zeros(delay, 3), steps])[:5]
    assert torch.equal(delayed(steps, delay), expected)


def test_steps_see_the_past_and_themselves():
    assert past_and_present(3).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def order(x, key):
    with TaskContext(torch.tensor(key), {}):
        return shuffled(Labelled(x, torch.arange(len(x))))


def test_the_order_is_drawn_by_key_and_examples():
    x = torch.randn(50, 3)
    one, again, other_key, other_task = order(x, 1), order(x, 1), order(x, 2), order(x + 1, 1)
    assert torch.equal(one.y, again.y)
    assert torch.equal(one.x, x[one.y])  # labels stay with their inputs
    assert torch.equal(one.y.sort().values, torch.arange(50))
    found = {tuple(examples.y.tolist()) for examples in (one, other_key, other_task)}
    assert len(found | {tuple(range(50))}) == 4


def test_the_order_does_not_depend_on_how_the_examples_stood():
    x, before = torch.rand(20, 1, 4, 4), torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(order(x, 0).x, order(x[before], 0).x)


def test_every_order_is_about_equally_likely():
    torch.manual_seed(0)
    counts = torch.zeros(3, 3)
    for key in range(900):
        counts[torch.arange(3), order(torch.rand(3, 1), key).y] += 1
    assert (counts / 900 - 1 / 3).abs().max() < 0.06  # four standard deviations


def test_accuracy_by_presentation():
    labels = torch.tensor([0, 1, 0, 1, 1])  # presentations 1, 1, 2, 2, 3
    guesses = torch.tensor([1, 1, 0, 1, 0])
    first, second, third = accuracy_by_presentation(torch.eye(2)[guesses], labels, 3)
    assert (first, second, third) == (0.5, 1, 0)
