"""The solver of support vector machines, against the conditions of optimality and scipy."""

import sys

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from metalit.functional import crammer_singer

F64 = torch.float64
solver = sys.modules["metalit.functional.crammer_singer"]  # the package has a function of that name


def problem(ways, shots, spread, seed=0):
    torch.manual_seed(seed)
    x = spread * torch.randn(ways * shots, 12, dtype=F64)
    return x @ x.T + torch.eye(len(x), dtype=F64), torch.eye(ways, dtype=F64).repeat(shots, 1)


def objective(kernel, labels, found):
    return (found * (kernel @ found)).sum() / 2 - (found * labels).sum()


def duality_gap(kernel, labels, found, cost):
    """What the classifier costs, sum of violated margins included, less what the dual says it must at least."""
    scores = kernel @ found
    violated = (scores + 1 - labels).amax(dim=1) - (scores * labels).sum(dim=1)
    return (found * scores).sum() / 2 + cost * violated.sum() + objective(kernel, labels, found)


@pytest.mark.parametrize(("spread", "iterations"), [(0.1, 15), (1.0, 15), (30.0, 20)])
@pytest.mark.parametrize(("ways", "shots", "cost"), [(5, 1, 0.1), (5, 5, 0.1), (3, 4, 2.0), (2, 3, 1.0)])
def test_solution_is_feasible_and_the_duality_gap_closed(ways, shots, cost, spread, iterations):
    kernel, labels = problem(ways, shots, spread)
    found = crammer_singer(kernel, labels, cost, iterations)
    assert found.sum(dim=1).abs().max() < 1e-12
    assert (found - cost * labels).max() < 1e-12
    assert -1e-12 < duality_gap(kernel, labels, found, cost) < 1e-9


def test_solution_is_that_of_scipy():
    kernel, labels = problem(3, 2, 1.0)
    found = crammer_singer(kernel, labels, 0.3, 25)
    size = labels.shape
    solution = minimize(
        lambda a: objective(kernel, labels, torch.from_numpy(a.reshape(size))).item(),
        np.zeros(labels.numel()),
        jac=lambda a: (kernel @ torch.from_numpy(a.reshape(size)) - labels).numpy().ravel(),
        bounds=[(None, bound) for bound in (0.3 * labels).ravel().tolist()],
        constraints={"type": "eq", "fun": lambda a: a.reshape(size).sum(axis=1)},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    torch.testing.assert_close(found, torch.from_numpy(solution.x.reshape(size)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("iterations", [15, 25])
def test_derivative_is_that_of_the_solution(iterations):
    kernel, labels = problem(3, 3, 1.0)
    direction = torch.randn_like(kernel)
    weights = torch.randn_like(labels)

    def value(kernel):
        return (weights * crammer_singer(kernel, labels, 0.2, iterations)).sum()

    by_autograd = (torch.func.grad(value)(kernel) * direction).sum()
    by_differences = (value(kernel + 1e-5 * direction) - value(kernel - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close(by_autograd, by_differences, rtol=1e-5, atol=1e-8)


def test_half_precision_is_solved_in_float64():
    kernel, labels = problem(3, 2, 1.0)
    found = crammer_singer(kernel.float(), labels.float(), 0.1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), crammer_singer(kernel.float().double(), labels, 0.1), rtol=1e-6, atol=1e-8
    )


def test_a_system_has_n_variables_and_a_multiplier_of_each_support_example(monkeypatch):
    sizes, plain = set(), solver.solve

    def noting(system, b):
        sizes.add(system.shape)
        return plain(system, b)

    monkeypatch.setattr(solver, "solve", noting)
    kernel, labels = problem(5, 2, 1.0)
    crammer_singer(kernel, labels, 0.1)
    assert sizes == {(6 * 10, 6 * 10)}  # (N + 1) S
