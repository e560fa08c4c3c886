"""Ridge regression, in both forms, of class labels and of numbers."""

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from metalit import Episode, Labelled
from metalit.algorithms import R2D2, MetaOptNet, PrototypicalNetwork, RidgeProbe
from metalit.episode import PaddedLabelled
from metalit.functional import ridge_regression
from metalit.functional.ridge import ridge_dual, ridge_primal
from metalit.heads import RidgeClassifier, RidgeRegression, SupportVectorMachine

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


@pytest.fixture
def regression():
    """Twelve points of five dimensions with two targets, and queries."""
    torch.manual_seed(0)
    support = Labelled(torch.randn(12, 5, dtype=F64), torch.randn(12, 2, dtype=F64))
    return support, torch.randn(7, 5, dtype=F64)


def test_numbers_without_penalty_are_least_squares(regression):
    support, query = regression
    found = RidgeRegression(strength=1e-12, scale=3.0).double()(support, query, 0)
    x, q = (nn.functional.pad(part, (0, 1), value=1.0) for part in (support.x, query))
    torch.testing.assert_close(found, q @ torch.linalg.lstsq(x, support.y).solution, rtol=1e-8, atol=1e-8)


def test_numbers_of_the_probe_are_those_of_scikit_learn(regression):
    support, query = regression
    expected = Ridge(alpha=0.7).fit(support.x.numpy(), support.y.numpy()).predict(query.numpy())
    found = RidgeClassifier(strength=0.7)(support, query, 0)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)
    adapted = RidgeProbe(nn.Identity(), strength=0.7, transform=()).adapt(support)
    torch.testing.assert_close(adapted(query), found)


@pytest.mark.parametrize("outputs", [5, 20])
def test_both_forms_agree_on_numbers(outputs):
    torch.manual_seed(0)
    x, y = torch.randn(6, 4, dtype=F64), torch.randn(6, outputs, dtype=F64)
    torch.testing.assert_close(ridge_primal(x, y, 0.3), ridge_dual(x, y, 0.3))


def test_learns_regression_tasks_through_the_ridge(regression):
    """Predictions are values without a scale, and the loss is the squared error."""
    support, query = regression
    batch = Labelled(support.x.unsqueeze(0), support.y.unsqueeze(0))
    episode = Episode(batch, Labelled(query.unsqueeze(0), torch.ones(1, 7, 2, dtype=F64)), torch.arange(1))
    for learner in (R2D2(nn.Identity()), MetaOptNet(nn.Identity(), "ridge", strength=1.0)):
        outcome = learner.double()(episode)
        expected = RidgeRegression(scale=77.0, intercept=isinstance(learner, R2D2)).double()(support, query, 0)
        torch.testing.assert_close(outcome.predictions[0], expected)
        torch.testing.assert_close(outcome.loss[0], (expected - 1).square().mean())


@pytest.mark.parametrize("learner", [PrototypicalNetwork(nn.Identity()), MetaOptNet(nn.Identity())])
def test_classifiers_refuse_numbers_by_name(learner, regression):
    with pytest.raises(ValueError, match=f"{type(learner).__name__} classifies, but the labels are floats"):
        learner.double().adapt(regression[0])


def padded(examples, places=4):
    """The examples with places after them that hold what an embedding of nothing may be."""
    x = torch.cat([examples.x, torch.full((places, examples.x.shape[1]), torch.nan, dtype=F64)])
    y = torch.cat([examples.y, torch.zeros(places, *examples.y.shape[1:], dtype=examples.y.dtype)])
    return PaddedLabelled(x, y, torch.arange(len(y)) < len(examples.y))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("rows", [3, 12])
def test_padding_adds_nothing_to_the_ridge(regression, intercept, rows):
    support = Labelled(*(part[:rows] for part in regression[0]))
    labels = Labelled(support.x, torch.arange(rows) % 3)
    head = RidgeRegression(strength=0.5, intercept=intercept).double()
    for examples, ways in ((support, 0), (labels, 3)):
        expected = head(examples, regression[1], ways)
        torch.testing.assert_close(head(padded(examples), regression[1], ways), expected, rtol=0, atol=1e-12)


def test_padding_adds_nothing_to_the_gradient_of_the_ridge(regression):
    support, query = regression
    head = RidgeRegression().double()
    gradients = []
    for examples in (support, padded(support)):
        x = examples.x.clone().requires_grad_()
        head(examples._replace(x=x), query, 0).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1][:12], gradients[0])
    assert torch.equal(gradients[1][12:], torch.zeros(4, 5, dtype=F64))


def test_padding_adds_nothing_to_the_support_vector_machine(task):
    support, query = task
    head = SupportVectorMachine().double()
    torch.testing.assert_close(head(padded(support), query, 3), head(support, query, 3), rtol=0, atol=1e-8)
