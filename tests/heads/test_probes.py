"""Probes against scikit-learn on the same features."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, vmap

from metalit import Labelled
from metalit.functional.logistic import logistic_regression
from metalit.functional.logistic_of_many import logistic_regression_of_many
from metalit.heads import LogisticRegression, RidgeClassifier

sklearn_models = pytest.importorskip("sklearn.linear_model")
pytestmark = pytest.mark.algorithms("RidgeProbe", "LogisticProbe")
F64 = torch.float64


def task(ways=5, shots=5, features=64, scale=1.0, seed=0):
    """Classes of Gaussian features with the support set in any order, and queries."""
    torch.manual_seed(seed)
    y = torch.arange(ways).repeat(shots)
    centres = torch.randn(ways, features, dtype=F64)
    x, q = (scale * (centres[labels] + torch.randn(len(labels), features, dtype=F64)) for labels in (y, y))
    return Labelled(x, y), q


SIZES = [(5, 1, 64), (5, 5, 64), (3, 6, 4)]  # more features than examples, and fewer


@pytest.mark.parametrize(("ways", "shots", "features"), SIZES)
@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_logistic_regression_is_that_of_scikit_learn(ways, shots, features, strength):
    support, query = task(ways, shots, features)
    model = sklearn_models.LogisticRegression(C=1 / strength, tol=1e-10, max_iter=100_000)
    model.fit(support.x.numpy(), support.y.numpy())
    found = LogisticRegression(strength)(support, query, ways).softmax(dim=-1)
    np.testing.assert_allclose(found, model.predict_proba(query.numpy()), atol=2e-5)


@pytest.mark.parametrize(("ways", "shots", "features"), SIZES)
@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_ridge_classifier_is_that_of_scikit_learn(ways, shots, features, strength):
    support, query = task(ways, shots, features)
    model = sklearn_models.RidgeClassifier(alpha=strength).fit(support.x.numpy(), support.y.numpy())
    found = RidgeClassifier(strength, scale=1.0)(support, query, ways)
    np.testing.assert_allclose(2 * found - 1, model.decision_function(query.numpy()), atol=1e-7)  # labels -1 and 1


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e3])
def test_newton_converges(scale, strength):
    support, _ = task(scale=scale, features=8)
    members = torch.nn.functional.one_hot(support.y).double()
    weight, bias = logistic_regression(support.x, members, strength)
    excess = (support.x @ weight + bias).softmax(dim=-1) - members
    assert (support.x.mT @ excess + strength * weight).abs().max() < 1e-5 * support.x.norm()
    assert excess.sum(dim=0).abs().max() < 1e-5
    assert abs(bias.mean()) < 1e-9


def test_the_derivative_is_that_of_the_solution():
    support, query = task(3, 2, 4)

    def loss(x):
        return LogisticRegression(0.5)(Labelled(x, support.y), query, 3).softmax(dim=-1)[:, 0].square().sum()

    found, direction = grad(loss)(support.x), torch.randn_like(support.x)
    step = 1e-5
    expected = (loss(support.x + step * direction) - loss(support.x - step * direction)) / (2 * step)
    torch.testing.assert_close((found * direction).sum(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("head", [LogisticRegression(0.5), RidgeClassifier(0.5)])
def test_tasks_side_by_side_are_those_one_by_one(head):
    tasks = [task(seed=seed) for seed in range(3)]
    expected = torch.stack([head(support, query, 5) for support, query in tasks])
    x, y, q = (torch.stack(part) for part in zip(*[(*support, query) for support, query in tasks], strict=True))
    found = vmap(lambda x, y, q: head(Labelled(x, y), q, 5))(x, y, q)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("head", "wrong"), [(LogisticRegression, "iterations"), (RidgeClassifier, "scale")])
def test_impossible_numbers_are_refused(head, wrong):
    with pytest.raises(ValueError, match=f"{wrong} is 0"):
        head(**{wrong: 0})
    with pytest.raises(ValueError, match="strength is -1"):
        head(strength=-1)


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_of_many_examples_the_minimum_is_the_same(scale, strength):
    support, _ = task(10, 8, 32)
    x, members = scale * F.normalize(support.x), F.one_hot(support.y).double()
    expected = logistic_regression(x, members, strength)
    found = logistic_regression_of_many(x, members, strength)
    together = vmap(lambda x: logistic_regression_of_many(x, members, strength))(torch.stack([x, 2 * x]))
    for one, other, mapped in zip(found, expected, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(mapped[0], one, rtol=1e-6, atol=1e-7)


def test_a_large_support_set_takes_another_way_to_the_same_classifier(monkeypatch):
    support, query = task(12, 5, 16)
    found = LogisticRegression(0.1)(support, query, 12)
    monkeypatch.setattr("metalit.heads.probes.MANY", 10**6)
    torch.testing.assert_close(found, LogisticRegression(0.1)(support, query, 12), rtol=1e-6, atol=1e-6)
    assert not torch.equal(found, LogisticRegression(0.1)(support, query, 12))
