"""Class means that are adapted to one another."""

import pytest
import torch
from torch import nn

from metalit import Labelled
from metalit.functional import class_means
from metalit.heads import AdaptedClassMeans, SquaredEuclidean
from metalit.networks.set_attention import SetAttention

F64 = torch.float64


@pytest.fixture
def task():
    torch.manual_seed(0)
    return Labelled(torch.randn(6, 4, dtype=F64), torch.arange(3).repeat(2)), torch.randn(5, 4, dtype=F64)


def test_attention_by_torch():
    """One head of the full length is that of nn.MultiheadAttention without biases."""
    torch.manual_seed(0)
    x, attention = torch.randn(5, 4, dtype=F64), SetAttention(4, dropout=0.0).double()
    reference = nn.MultiheadAttention(4, 1, bias=True, batch_first=True).double()
    weights = [layer.weight.data for layer in (attention.queries, attention.keys, attention.values)]
    reference.in_proj_weight.data, reference.in_proj_bias.data = (
        torch.cat(weights),
        torch.zeros(12, dtype=F64),
    )
    reference.out_proj.weight.data, reference.out_proj.bias.data = (
        attention.out.weight.data,
        attention.out.bias.data,
    )
    expected = attention.norm(x + reference(x[None], x[None], x[None])[0][0])
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_has_no_order_and_keeps_to_its_mask(heads):
    torch.manual_seed(0)
    x, attention = torch.randn(5, 4, dtype=F64), SetAttention(4, heads, dropout=0.0).double()
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(attention(x[order]), attention(x)[order])
    groups = torch.tensor([0, 1, 0, 1, 1])
    masked = attention(x, groups[:, None] == groups[None])
    for group in range(2):
        torch.testing.assert_close(masked[groups == group], attention(x[groups == group]))


def test_means_are_adapted_and_queries_are_not(task):
    support, query = task
    logits = AdaptedClassMeans(nn.Tanh(), SquaredEuclidean(0.5))(support, query, 3)
    means = class_means(support.x, support.y, 3).tanh()
    torch.testing.assert_close(logits, -0.5 * torch.cdist(query, means).square())


@pytest.mark.parametrize("settings", [{"features": 0}, {"heads": 0}, {"dropout": 1.0}])
def test_impossible_numbers_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        SetAttention(**({"features": 4} | settings))
