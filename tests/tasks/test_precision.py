"""In mixed precision, sums over many numbers are taken in float32, and what is given in more stays so."""

import pytest
import torch
import torch.nn.functional as F

from metalit.functional import class_means, squared_euclidean, task_loss
from metalit.tasks import full_precision, without_autocast

HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("half", HALF)
def test_distances_and_means_under_autocast_are_those_of_float32(half):
    torch.manual_seed(0)
    a, b = torch.randn(6, 500), torch.randn(4, 500)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    distances, means = squared_euclidean(a, b), class_means(a, labels, ways=2)
    with torch.autocast("cpu", half):
        assert torch.equal(squared_euclidean(a, b), distances)
        assert torch.equal(class_means(a, labels, ways=2), means)
        assert squared_euclidean(a.to(half), b.to(half)).dtype == torch.float32


def test_what_overflows_in_float16_does_not():
    far, origin = torch.full((1, 100), 100.0, dtype=torch.float16), torch.zeros(1, 100, dtype=torch.float16)
    with torch.autocast("cpu", torch.float16):
        assert squared_euclidean(far, origin).item() == 1e6
        assert task_loss(far.T * 10, torch.zeros(100, 1)).item() == 1e6


def test_losses_take_their_digits_from_the_predictions():
    logits, labels = torch.randn(50, 5).half(), torch.arange(50) % 5
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(task_loss(logits, labels), F.cross_entropy(logits.float(), labels))


@pytest.mark.parametrize("given", [*HALF, torch.float32, torch.float64])
def test_without_autocast_nothing_is_converted(given):
    assert full_precision(torch.add)(torch.ones(1, dtype=given), 1).dtype == given


def test_more_than_float32_stays():
    with torch.autocast("cpu", torch.bfloat16):
        assert full_precision(torch.mm)(torch.ones(1, 1).double(), torch.ones(1, 1).double()).dtype == torch.float64


def test_without_autocast_products_keep_their_precision():
    x = torch.ones(1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(x.device):
            assert (x @ x).dtype == torch.float32
