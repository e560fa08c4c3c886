"""Gradients by autograd are those of ``torch.func``, of either order, and cost no graph that nobody asked for."""

import pytest
import torch
from torch.func import grad, grad_and_value, vmap

from metalit.tasks.pullback import gradient_and_value


@pytest.fixture
def parameters():
    make = torch.Generator().manual_seed(0)
    return {name: torch.randn(3, generator=make, dtype=torch.float64).requires_grad_() for name in ("a", "b", "c")}


def loss_of(meta):
    """A loss that depends on ``a`` as an argument and as what it was before, and not at all on ``c``."""
    return lambda own, factor: factor * ((own["a"] ** 3 * meta["b"]).sum() + (own["a"] - meta["a"]).pow(2).sum()).exp()


def learned(take, parameters):
    """The loss after two steps, whose gradient is of second order."""
    loss, own = loss_of(parameters), dict(parameters)
    for _ in range(2):
        slopes, value = take(loss)(own, 0.1)
        own = {name: each - 0.1 * slopes[name] for name, each in own.items()}
    return loss(own, 0.5) + value


def by_autograd(loss):
    return lambda own, factor: gradient_and_value(loss, own, factor)


def test_second_order_is_that_of_func(parameters):
    def gradient(take):
        return torch.autograd.grad(learned(take, parameters), parameters.values(), allow_unused=True)

    for found, expected in zip(gradient(by_autograd), gradient(grad_and_value), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_within_a_transform_it_is_func(parameters):
    fixed = {name: each.detach() for name, each in parameters.items()}
    found = vmap(grad(lambda each: learned(by_autograd, fixed | {"a": each})))(fixed["a"].repeat(2, 1))
    (expected,) = torch.autograd.grad(learned(grad_and_value, fixed | {"a": parameters["a"]}), parameters["a"])
    torch.testing.assert_close(found, expected.expand(2, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("higher", [True, False])
def test_without_gradients_it_is_a_constant(parameters, higher):
    expected, _ = grad_and_value(loss_of(parameters))(parameters, 0.1)
    with torch.no_grad():
        found, value = gradient_and_value(loss_of(parameters), parameters, 0.1, higher=higher)
    assert not value.requires_grad
    assert not any(each.requires_grad for each in found.values())
    torch.testing.assert_close(found, {name: each.detach() for name, each in expected.items()})


def test_of_first_order_no_graph_is_kept(parameters):
    found, value = gradient_and_value(loss_of(parameters), parameters, 0.1, higher=False)
    assert value.grad_fn is None
    assert all(each.grad_fn is None for each in found.values())
