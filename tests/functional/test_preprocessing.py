"""The preprocessing of gradients and losses, against its definition by cases."""

import math

import pytest
import torch

from metalit.functional.preprocessing import log_and_sign


def by_cases(x, p):
    """Ravi and Larochelle 2017, section 3.2."""
    return (math.log(abs(x)) / p, math.copysign(1, x)) if abs(x) >= math.exp(-p) else (-1, math.exp(p) * x)


@pytest.mark.parametrize("p", [2.0, 10.0])
def test_both_branches(p):
    numbers = [s * size for s in (1, -1) for size in (1e-9, 1e-6, 1e-4, 0.1, 0.14, 1.0, 1e3)] + [0.0]
    expected = torch.tensor([by_cases(x, p) for x in numbers], dtype=torch.float64)
    found = log_and_sign(torch.tensor(numbers, dtype=torch.float64), p)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert log_and_sign(torch.zeros(3, 4), p).shape == (3, 4, 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_branches_meet(sign):
    edge = sign * math.exp(-10)
    around = torch.tensor([edge * (1 - 1e-9), edge, edge * (1 + 1e-9)], dtype=torch.float64)
    expected = torch.tensor([-1.0, sign], dtype=torch.float64).expand(3, 2)
    torch.testing.assert_close(log_and_sign(around), expected, rtol=0, atol=1e-8)


def test_derivatives_are_finite_everywhere():
    x = torch.tensor([0.0, 1e-12, -1e-5, 3.0], dtype=torch.float64, requires_grad=True)
    size, sign = log_and_sign(x).unbind(-1)
    (of_size,) = torch.autograd.grad(size.sum(), x, retain_graph=True)
    (of_sign,) = torch.autograd.grad(sign.sum(), x)
    assert of_size.tolist() == pytest.approx([0, 0, 0, 1 / 30])
    assert of_sign.tolist() == pytest.approx([math.exp(10)] * 3 + [0])


def test_a_p_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"p is 0\.0"):
        log_and_sign(torch.ones(1), 0.0)
