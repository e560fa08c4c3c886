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


def test_from_constants_it_is_a_constant(parameters):
    # else each step of many would keep the graph of all before it
    fixed = {name: each.detach() for name, each in parameters.items()}
    found, value = gradient_and_value(loss_of(fixed), fixed, 0.1)
    assert value.grad_fn is None
    assert all(each.grad_fn is None for each in found.values())
    found, _ = gradient_and_value(loss_of(parameters), fixed, 0.1)
    assert found["a"].requires_grad  # which depends on what the loss closes over


def test_in_inference_mode_it_is_the_gradient(parameters):
    expected, _ = grad_and_value(loss_of(parameters))(parameters, 0.1)
    with torch.inference_mode():
        found, _ = gradient_and_value(loss_of(parameters), parameters, 0.1)
    torch.testing.assert_close(found["b"], expected["b"].detach())
    torch.testing.assert_close(found["a"], expected["a"].detach())


def test_of_nothing_there_is_no_gradient():
    assert gradient_and_value(lambda _: torch.ones(()), {}) == ({}, torch.ones(()))


def test_a_loss_of_several_values_is_refused(parameters):
    with pytest.raises(ValueError, match=r"0-d, not of shape \[3\]"):
        gradient_and_value(lambda own: own["a"] ** 2, parameters)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 3 * g * ctx.saved_tensors[0] ** 2


@pytest.mark.parametrize("after", [torch.sum, lambda x: x.square().sum()], ids=["linear", "square"])
def test_a_derivative_without_one_is_refused(parameters, after):
    before = torch.autograd.function._functions.DelayedError
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient_and_value(lambda own: after(Cube.apply(own["a"])), parameters)
    found, _ = gradient_and_value(lambda own: after(Cube.apply(own["a"])), parameters, higher=False)
    assert found["a"].abs().sum() > 0
    assert torch.autograd.function._functions.DelayedError is before
