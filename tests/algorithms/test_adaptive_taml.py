"""Adaptive TAML: the correction by hand, and MAML where there is none."""

import math

import pytest
import torch
from torch import nn

from algorithms.test_battery import assert_same_gradient, double, meta_gradient
from metalit import MAML
from metalit.algorithms import AdaptiveTAML
from metalit.networks import MLP
from metalit.update_rules.residual_update import ResidualUpdate, features


def make(algorithm, **settings):
    torch.manual_seed(3)
    return algorithm(MLP(hidden=(8, 8)), inner_lr=0.05, inner_steps=2, **settings).double()


@pytest.mark.parametrize("features_first_order", [True, False])
def test_it_begins_as_maml_and_may_leave_it(features_first_order):
    episode = double("sinusoid")
    expected_loss, expected = meta_gradient(make(MAML), episode)
    loss, found = meta_gradient(make(AdaptiveTAML, features_first_order=features_first_order), episode)
    assert_same_gradient((loss, {name: found[name] for name in expected}), (expected_loss, expected))
    assert found["update_rule.network.2.weight"].abs().min() > 1e-3
    assert found["update_rule.beta"] == 0  # the product with g = 0: it moves after the last layer has moved


def coordinate(x):
    """Size and sign of one number, p = 10."""
    return [math.log(abs(x)) / 10, math.copysign(1, x)] if abs(x) >= math.exp(-10) else [-1, math.exp(10) * x]


def test_what_the_correction_sees_and_does():
    rule = ResidualUpdate(lr=0.5, beta=0.2, hidden=3, initial_scale=1.0).double()
    parameters = {"a": torch.tensor([[0.3, -2.0]]).double(), "b": torch.tensor([4.0]).double()}
    gradient = {"a": torch.tensor([[1e-6, -0.1]]).double(), "b": torch.tensor([20.0]).double()}
    loss = torch.tensor(0.7, dtype=torch.float64)
    rows = [
        [theta, *coordinate(slope), *coordinate(0.7), 1 / 3, coordinate(mean)[0]]
        for theta, slope, mean in [(0.3, 1e-6, 0.0500005), (-2.0, -0.1, 0.0500005), (4.0, 20.0, 20.0)]
    ]
    seen = features(gradient, 2, parameters, loss)
    torch.testing.assert_close(seen, torch.tensor(rows, dtype=torch.float64), rtol=1e-6, atol=1e-8)

    updated, step = rule(gradient, 2, parameters, loss)
    first, _, last = rule.network
    g = torch.tanh(seen @ first.weight.T + first.bias) @ last.weight.T + last.bias
    expected = torch.tensor([0.3 - 5e-7, -2 + 0.05, 4 - 10]).double() + 0.2 * g[:, 0]
    torch.testing.assert_close(torch.cat([value.flatten() for value in updated.values()]), expected)
    assert step == 3


@pytest.mark.parametrize("constant", [True, False])
def test_inputs_of_the_correction_are_held_constant_only_if_told_so(constant):
    rule = ResidualUpdate(lr=0.5, initial_scale=1.0, features_first_order=constant).double()
    gradient = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(2, dtype=torch.float64)
    updated, _ = rule({"a": gradient}, 0, {"a": zero}, torch.tensor(1.0, dtype=torch.float64))
    (of_gradient,) = torch.autograd.grad(updated["a"].sum(), gradient)
    assert torch.equal(of_gradient, torch.full_like(gradient, -0.5)) is constant


@pytest.mark.learns
def test_it_learns_steps_that_no_rate_can_make():
    """Targets lie at the sign of the gradient times 1, whatever its size: a task for g."""
    torch.manual_seed(0)
    rule = ResidualUpdate(lr=0.01, beta=1.0)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.02)
    for _ in range(200):
        gradient = torch.randn(64) * 10 ** torch.empty(64).uniform_(-3, 0)
        updated, _ = rule({"a": gradient}, 0, {"a": torch.zeros(64)}, torch.tensor(1.0))
        loss = (updated["a"] + gradient.sign()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert rule.beta != 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inner_lr": 0.0}, r"inner_lr is 0\.0"),
        ({"beta": -1.0}, r"beta is -1\.0"),
        ({"hidden": 0}, "hidden is 0"),
        ({"initial_scale": -0.1}, r"initial_scale is -0\.1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveTAML(nn.Linear(1, 1), **settings)
