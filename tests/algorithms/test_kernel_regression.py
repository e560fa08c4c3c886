"""Kernel regression: identities, padding, and what it refuses."""

import pytest
import torch
from torch import nn

from metalit import Labelled
from metalit.algorithms import KernelRegression
from metalit.episode import PaddedLabelled
from metalit.heads import KernelSmoother

F64 = torch.float64


@pytest.fixture
def task():
    torch.manual_seed(0)
    return Labelled(torch.randn(6, 3, dtype=F64), torch.randn(6, 2, dtype=F64)), torch.randn(4, 3, dtype=F64)


def test_values_by_hand(task):
    support, query = task
    found = KernelRegression(nn.Identity(), bandwidth=0.5).double().adapt(support)(query)
    for q, value in zip(query, found, strict=True):
        weights = torch.stack([(-(q - x).square().sum() / (2 * 0.25)).exp() for x in support.x])
        expected = (weights.unsqueeze(1) * support.y).sum(dim=0) / weights.sum()
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)


def test_an_infinite_bandwidth_predicts_the_mean(task):
    support, query = task
    found = KernelSmoother(bandwidth=1e9).double()(support, query, 0)
    torch.testing.assert_close(found, support.y.mean(dim=0).expand(4, -1))


def test_a_bandwidth_of_nothing_predicts_the_nearest(task):
    support, query = task
    found = KernelSmoother(bandwidth=1e-3).double()(support, query, 0)
    nearest = torch.cdist(query, support.x).argmin(dim=1)
    torch.testing.assert_close(found, support.y[nearest])


def test_padding_has_no_weight(task):
    support, query = task
    x = torch.cat([support.x, torch.full((2, 3), torch.nan, dtype=F64)])
    y = torch.cat([support.y, torch.zeros(2, 2, dtype=F64)])
    padded = PaddedLabelled(x.requires_grad_(), y, torch.arange(8) < 6)
    head = KernelSmoother(bandwidth=0.5).double()
    found = head(padded, query, 0)
    torch.testing.assert_close(found, head(support, query, 0), rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient[:6].isfinite().all()
    assert torch.equal(gradient[6:], torch.zeros(2, 3, dtype=F64))


def test_class_labels_and_impossible_bandwidths_are_refused():
    classes = Labelled(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="KernelRegression predicts numbers, but the labels are integers"):
        KernelRegression(nn.Identity()).adapt(classes)
    with pytest.raises(ValueError, match="bandwidth is"):
        KernelRegression(nn.Identity(), bandwidth=0.0)
