"""Conjugate gradients, Adam and mini-batches, against what they stand for."""

from itertools import pairwise

import pytest
import torch

from metalit import Labelled
from metalit.algorithms.gradient.mini_batches import empty_queue, next_mini_batch
from metalit.functional import conjugate_gradient
from metalit.tasks import TaskContext
from metalit.update_rules import SGD, Adam

F64 = torch.float64


@pytest.fixture
def system():
    """A symmetric positive matrix over two named parts of 4 and 2 entries, and a right-hand side."""
    torch.manual_seed(0)
    root = torch.randn(6, 6, dtype=F64)
    return root @ root.T + torch.eye(6, dtype=F64), torch.randn(6, dtype=F64)


def parts(vector):
    return {"one": vector[:4].reshape(2, 2), "other": vector[4:]}


def whole(named):
    return torch.cat([value.flatten() for value in named.values()])


def solve(matrix, b, steps, **settings):
    return conjugate_gradient(lambda v: parts(matrix @ whole(v)), parts(b), steps, **settings)


def test_as_many_iterations_as_unknowns_solve_a_system(system):
    matrix, b = system
    for damping in (0.0, 3.0):
        x = whole(solve(matrix, b, 12, damping=damping).x)
        torch.testing.assert_close(
            x, torch.linalg.solve(matrix + damping * torch.eye(6, dtype=F64), b), rtol=1e-9, atol=0
        )


def test_the_error_falls_and_the_residual_is_that_of_the_undamped_system(system):
    matrix, b = system
    exact = torch.linalg.solve(matrix, b)
    errors = []
    for steps in range(7):
        x, residual = (whole(found) for found in solve(matrix, b, steps, damping=0.1))
        torch.testing.assert_close(residual, b - matrix @ x)
        error = whole(solve(matrix, b, steps).x) - exact
        errors.append(error @ matrix @ error)
    assert all(later < earlier for earlier, later in pairwise(errors))


def test_each_system_of_a_batch_stops_by_itself(system):
    matrix, b = system
    converged, negative = torch.eye(6, dtype=F64), -matrix

    def one(matrix):
        return whole(solve(matrix, b, 6).x)

    x = torch.vmap(one)(torch.stack([matrix, converged, negative]))
    torch.testing.assert_close(x, torch.stack([one(matrix), b, torch.zeros_like(b)]))


def test_directions_of_little_curvature_are_not_taken():
    matrix, b = (
        torch.diag(torch.tensor([4.0, 4.0, 4.0, 4.0, 1e-3, 1e-3], dtype=F64)),
        torch.ones(6, dtype=F64),
    )
    assert solve(matrix, b, 6).x["other"].norm() > 1000
    assert solve(matrix, b, 6, least_curvature=1.0).x["other"].norm() < 1


def test_what_is_not_a_number_is_seen(system):
    matrix, b = system
    assert not whole(solve(matrix * torch.nan, b, 2).x).isfinite().any()


def test_half_precision_is_solved_in_float32():
    matrix = torch.eye(6, dtype=torch.bfloat16) * 3
    x, _ = conjugate_gradient(lambda v: {"v": (matrix.float() @ v["v"])}, {"v": torch.ones(6, dtype=torch.bfloat16)}, 2)
    assert x["v"].dtype == torch.float32
    torch.testing.assert_close(x["v"], torch.full((6,), 1 / 3))


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_adam_is_that_of_torch(beta1):
    torch.manual_seed(0)
    start, gradients = torch.randn(5, dtype=F64), torch.randn(4, 5, dtype=F64)
    reference = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([reference], lr=0.1, betas=(beta1, 0.999))
    rule = Adam(0.1, beta1=beta1)
    parameters, state = {"p": start}, rule.init({"p": start})
    for gradient in gradients:
        reference.grad = gradient
        optimizer.step()
        parameters, state = rule({"p": gradient}, state, parameters, torch.zeros(()))
    torch.testing.assert_close(parameters["p"], reference.detach())


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"lr": 1.0, "beta1": 1.0}, {"lr": 1.0, "beta2": -0.1}])
def test_impossible_settings_of_adam_are_refused(settings):
    with pytest.raises(ValueError, match=r"is .*, expected a"):
        Adam(**settings)
    assert SGD(1.0).lr == 1.0


def test_mini_batches_pass_over_all_examples_before_any_comes_again():
    examples = Labelled(torch.arange(5), torch.arange(5))
    with TaskContext(torch.tensor(7), {}):
        queue, seen = empty_queue(examples), []
        for _ in range(5):  # five batches of three are three passes over five examples
            batch, queue = next_mini_batch(examples, queue, 3)
            assert torch.equal(batch.x, batch.y)
            seen += batch.x.tolist()
    passes = [seen[:5], seen[5:10], seen[10:]]
    assert [sorted(part) for part in passes] == [list(range(5))] * 3
    assert passes[0] != passes[1] or passes[1] != passes[2]


@pytest.mark.parametrize("size", [None, 5, 8])
def test_a_batch_that_covers_the_set_is_the_set_in_its_order(size):
    examples = Labelled(torch.arange(5), torch.arange(5))
    batch, queue = next_mini_batch(examples, empty_queue(examples), size)
    assert batch is examples
    assert len(queue) == 0
