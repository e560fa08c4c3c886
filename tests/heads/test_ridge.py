"""Ridge regression, in both forms."""

import pytest
import torch
from torch import nn

from metalit import Labelled
from metalit.algorithms import R2D2, MetaOptNet
from metalit.functional import ridge_regression
from metalit.functional.ridge import ridge_dual, ridge_primal
from metalit.heads import RidgeRegression

F64 = torch.float64


@pytest.fixture
def task():
    torch.manual_seed(0)
    return Labelled(torch.randn(6, 4, dtype=F64), torch.arange(3).repeat(2)), torch.randn(5, 4, dtype=F64)


@pytest.mark.parametrize("features", [3, 6, 20])
def test_both_forms_are_the_minimum(features):
    torch.manual_seed(0)
    x, y = torch.randn(6, features, dtype=F64), torch.randn(6, 2, dtype=F64)
    primal, dual = ridge_primal(x, y, 0.3), ridge_dual(x, y, 0.3)
    torch.testing.assert_close(primal, dual)
    torch.testing.assert_close(ridge_regression(x, y, 0.3), primal)
    torch.testing.assert_close(x.T @ (x @ primal - y) + 0.3 * primal, torch.zeros_like(primal))
    assert ridge_regression(x.float(), y.float(), 0.3).dtype == torch.float32


def test_logits_by_hand(task):
    """A one is appended on both sides, targets are 0 and 1, and the factor multiplies all."""
    support, query = task
    logits = RidgeRegression(strength=0.5, scale=3.0).double()(support, query, 3)
    x, q = (torch.cat([part, torch.ones(len(part), 1, dtype=F64)], dim=1) for part in (support.x, query))
    targets = nn.functional.one_hot(support.y).double()
    weights = torch.linalg.solve(x.T @ x + 0.5 * torch.eye(5, dtype=F64), x.T @ targets)
    torch.testing.assert_close(logits, 3 * q @ weights, rtol=1e-6, atol=1e-8)


def test_strength_stays_positive_and_is_learned_where_asked():
    fixed, learned = RidgeRegression(learn_strength=False), R2D2(nn.Identity())
    assert not fixed.log_strength.requires_grad
    assert learned.head.log_strength.requires_grad
    assert learned.head.log_strength.exp() == 1


def test_the_ridge_of_metaoptnet_is_twice_ridge_regression(task):
    """Its quadratic programme has 2 Y where the normal equations have Y."""
    support, query = task
    head = MetaOptNet(nn.Identity(), "ridge", strength=2.0).double().head
    targets = nn.functional.one_hot(support.y).double()
    coefficients = torch.zeros_like(targets, requires_grad=True)
    matrix = support.x @ support.x.T + 2 * torch.eye(6, dtype=F64)
    programme = (coefficients * (matrix @ coefficients)).sum() / 2 - 2 * (coefficients * targets).sum()
    (slope,) = torch.autograd.grad(programme, coefficients)  # at 0; the minimum is where matrix @ A = -slope
    by_hand = query @ support.x.T @ torch.linalg.solve(matrix, -slope)
    torch.testing.assert_close(head(support, query, 3), by_hand, rtol=1e-6, atol=1e-8)
    once = query @ ridge_regression(support.x, targets, 2.0)
    torch.testing.assert_close(head(support, query, 3), 2 * once, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"scale": -1.0}])
def test_impossible_numbers_are_refused(settings):
    with pytest.raises(ValueError, match="above 0"):
        RidgeRegression(**settings)
