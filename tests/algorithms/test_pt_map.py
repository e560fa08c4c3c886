"""PT-MAP: the authors' code written out, and the optimal transport by a linear program."""

import numpy as np
import pytest
import torch
from torch import nn

from metalit import Labelled
from metalit.algorithms import PTMAP
from metalit.functional.sinkhorn import sinkhorn

pytestmark = pytest.mark.algorithms("PTMAP")
F64 = torch.float64


def task(ways=3, shots=2, queries=6, features=5):
    torch.manual_seed(0)
    centres = torch.rand(ways, features, dtype=F64)
    y, labels = torch.arange(ways).repeat_interleave(shots), torch.arange(ways).repeat(queries)
    x, q = ((centres[k] + 1.5 * torch.rand(len(k), features, dtype=F64)).relu() for k in (y, labels))
    return Labelled(x, y), q


def by_hand(support, queries, beta=0.5, lam=10.0, alpha=0.2, epochs=20):
    """The authors' test_standard.py for one task, without the QR decomposition, which changes no distance."""

    def prepared(x):
        x = np.power(x.numpy() + 1e-6, beta)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        x = x - x.mean(0)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def transported(cost):
        plan = np.exp(-lam * cost)
        for _ in range(600):
            plan = plan / plan.sum(1, keepdims=True)
            plan = plan / plan.sum(0) * len(q) / onehot.shape[1]
        return plan

    x, q = prepared(support.x), prepared(queries)
    onehot = nn.functional.one_hot(support.y).double().numpy()
    means = onehot.T @ x / onehot.sum(0)[:, None]
    for epoch in range(epochs + 1):
        plan = transported(((q[:, None] - means[None]) ** 2).sum(-1))
        weights = np.concatenate([onehot, plan])
        if epoch < epochs:
            means = means + alpha * (weights.T @ np.concatenate([x, q]) / weights.sum(0)[:, None] - means)
    return plan


def learner(**settings):
    learner = PTMAP(nn.Identity(), **settings)
    learner.register_buffer("precision", torch.zeros((), dtype=F64))  # of a method without a parameter
    return learner


def test_the_authors_code():
    support, queries = task()
    found = learner(sinkhorn_iterations=600).adapt(support)(queries).exp()
    np.testing.assert_allclose(found, by_hand(support, queries), atol=1e-5)
    few = learner().adapt(support)(queries).exp()
    np.testing.assert_allclose(few, found, atol=0.02)


def test_a_sharp_transport_solves_the_linear_program():
    torch.manual_seed(0)
    cost = torch.rand(6, 3, dtype=F64)
    plan = sinkhorn(cost, 300.0, 3000).exp()
    sums = np.concatenate([np.kron(np.eye(6), np.ones((1, 3))), np.kron(np.ones((1, 6)), np.eye(3))])
    best = pytest.importorskip("scipy.optimize").linprog(cost.numpy().flatten(), A_eq=sums, b_eq=[1.0] * 6 + [2.0] * 3)
    np.testing.assert_allclose((plan * cost).sum(), best.fun, rtol=1e-3)
    torch.testing.assert_close(plan.sum(1), torch.ones(6, dtype=F64))
    torch.testing.assert_close(plan.sum(0), torch.full((3,), 2.0, dtype=F64), rtol=1e-3, atol=0)


def test_the_plan_minimises_the_regularised_cost():
    """Any exchange between two sources and two targets that keeps the sums raises it."""
    torch.manual_seed(0)
    cost = torch.rand(6, 3, dtype=F64)
    plan = sinkhorn(cost, 5.0, 300).exp()

    def objective(plan):
        return (plan * cost).sum() + (plan * plan.log()).sum() / 5

    exchange = torch.zeros_like(plan)
    exchange[0, 0] = exchange[3, 2] = 1e-3
    exchange[0, 2] = exchange[3, 0] = -1e-3
    assert objective(plan) < min(objective(plan + exchange), objective(plan - exchange))


def test_defaults_are_the_authors_and_it_is_marked_transductive():
    head = PTMAP(nn.Identity()).head
    assert (head.power, head.sharpness, head.rate, head.iterations) == (0.5, 10.0, 0.2, 20)
    assert PTMAP(nn.Identity()).setting()["transductive"] is True


@pytest.mark.parametrize(("name", "value"), [("power", 0), ("sharpness", 0), ("rate", 0), ("sinkhorn_iterations", 0)])
def test_impossible_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        PTMAP(nn.Identity(), **{name: value})
