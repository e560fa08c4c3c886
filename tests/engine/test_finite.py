"""The check before each step; that it stops a training is in the battery, and with two ranks in distributed/."""

import pytest
import torch

from metalit.engine.finite import has_finite_gradient, spans


def optimizer(*gradients):
    parameters = [torch.zeros_like(gradient).requires_grad_() for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    unused = torch.zeros(1, requires_grad=True)
    return torch.optim.SGD([{"params": parameters[:1]}, {"params": [*parameters[1:], unused]}], lr=0.1)


TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("where", range(len(TYPES)))
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_element_of_any_type_is_found(where, value):
    gradients = [torch.full((3, 5), torch.finfo(dtype).max, dtype=dtype) for dtype in TYPES]
    before = [gradient.clone() for gradient in gradients]
    assert has_finite_gradient(optimizer(*gradients))
    assert all(torch.equal(one, other) for one, other in zip(gradients, before, strict=True))
    gradients[where][2, 4] = value
    assert not has_finite_gradient(optimizer(*gradients))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_bad_loss_of_a_finite_gradient_is_found(value, dtype):
    made = optimizer(torch.ones(3), torch.ones(2))
    assert has_finite_gradient(made, [torch.tensor(1.0, dtype=dtype)])
    assert not has_finite_gradient(made, [torch.tensor(1.0), torch.tensor(value, dtype=dtype)])


def test_no_gradient_at_all_is_finite():
    assert has_finite_gradient(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))


def test_spans():
    assert spans([8, 3, 5, 6, 7, 11]) == "3, 5-8, 11"
    assert spans([]) == ""
