"""Policy gradients against exact values: all trajectories of a small decision process, by their probability."""

from itertools import product

import pytest
import torch
from torch.func import grad

from metalit.functional.policy_gradient import (
    discounted_sums,
    generalised_advantages,
    likelihood_ratio_loss,
    linear_baseline,
    score_function_loss,
    standardised,
)
from small_process import ACTIONS, F64, HORIZON, STATES, random_tables, value, weighted_trajectories

RATE = 0.7


@pytest.fixture
def tables():
    return random_tables()


def inner_loss(tables, theta, weights_at, surrogate, horizon=HORIZON):
    """The surrogate as a function of theta, on all trajectories of the policy ``weights_at``, per trajectory."""
    states, actions, weighted = weighted_trajectories(tables, weights_at, horizon)
    log_probs = theta.log_softmax(dim=-1)[states, actions]
    return score_function_loss(log_probs, weighted, torch.ones_like(states, dtype=torch.bool), surrogate)


@pytest.mark.parametrize("surrogate", ["score", "low_variance", "dice"])
def test_the_expected_gradient_is_that_of_the_expected_return(tables, surrogate):
    theta = torch.randn(STATES, ACTIONS, dtype=F64)
    expected = grad(lambda t: value(tables, t))(theta)
    torch.testing.assert_close(
        -grad(lambda t: inner_loss(tables, t, theta, surrogate))(theta), expected, atol=1e-12, rtol=0
    )


def meta_gradients(tables, theta, surrogate, horizon=HORIZON):
    """The expected meta-gradient by a surrogate, and the exact one."""

    def adapted(t):
        return t - RATE * grad(lambda u: inner_loss(tables, u, theta, surrogate, horizon))(t)

    def exactly(t):
        return value(tables, t + RATE * grad(lambda u: value(tables, u, horizon))(t), horizon)

    def outer(t):
        now = adapted(t)
        states, actions, advantages = weighted_trajectories(tables, now, horizon)
        new = now.log_softmax(dim=-1)[states, actions]
        return -likelihood_ratio_loss(new, new.detach(), advantages, torch.ones_like(states, dtype=torch.bool))

    return grad(outer)(theta), grad(exactly)(theta)


def test_the_meta_gradient_by_dice_is_the_analytic_one(tables):
    theta = torch.randn(STATES, ACTIONS, dtype=F64)
    found, expected = meta_gradients(tables, theta, "dice")
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_the_naive_surrogate_fails_the_same_test(tables):
    theta = torch.randn(STATES, ACTIONS, dtype=F64)
    found, expected = meta_gradients(tables, theta, "score")
    assert (found - expected).abs().max() > 1e-3


def test_low_variance_is_exact_for_one_time_step_and_the_score_is_not(tables):
    theta = torch.randn(STATES, ACTIONS, dtype=F64)
    found, expected = meta_gradients(tables, theta, "low_variance", horizon=1)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    score, _ = meta_gradients(tables, theta, "score", horizon=1)
    assert (score - expected).abs().max() > 1e-6


def test_advantages_against_a_loop():
    rewards, values = torch.randn(2, 3, 5, dtype=F64), torch.randn(2, 3, 5, dtype=F64)
    mask = torch.arange(5) < torch.tensor([[5], [2], [4]])
    mask = mask.expand(2, 3, 5)
    found = generalised_advantages(rewards, values, mask, discount=0.9, trace=0.7)
    for b, n in product(range(2), range(3)):
        length = int(mask[b, n].sum())
        for t in range(length):
            total = 0.0
            for k in range(t, length):
                following = values[b, n, k + 1] if k + 1 < length else 0.0
                total += (0.9 * 0.7) ** (k - t) * (rewards[b, n, k] + 0.9 * following - values[b, n, k])
            torch.testing.assert_close(found[b, n, t], total, atol=1e-12, rtol=0)
        assert (found[b, n, length:] == 0).all()


def test_with_trace_one_advantages_are_returns_minus_the_baseline():
    rewards, values = torch.randn(3, 5, dtype=F64), torch.randn(3, 5, dtype=F64)
    mask = torch.ones(3, 5, dtype=torch.bool)
    expected = discounted_sums(rewards, 0.9) - values
    torch.testing.assert_close(generalised_advantages(rewards, values, mask, 0.9, 1.0), expected)


def test_the_baseline_fits_returns_that_are_linear_in_its_features():
    states, mask = torch.randn(4, 3, 50, 2, dtype=F64), torch.ones(4, 3, 50, dtype=torch.bool)
    time = torch.arange(50, dtype=F64) / 100
    returns = 2 * states[..., 0] - states[..., 1] ** 2 + 3 * time**2 + 1
    torch.testing.assert_close(linear_baseline(states, returns, mask), returns, atol=1e-3, rtol=0)


def test_the_baseline_takes_features_that_are_the_same():
    torch.manual_seed(0)
    states = torch.nn.functional.one_hot(torch.randint(5, (3, 10, 100)), 5).float()  # and squares, and a constant
    mask = torch.ones(3, 10, 100, dtype=torch.bool)
    returns = 3 * states[..., 0] - states[..., 1] + 2
    torch.testing.assert_close(linear_baseline(states, returns, mask), returns, atol=1e-3, rtol=0)


def test_steps_after_the_end_change_nothing():
    states, returns, mask = torch.randn(1, 3, 6, 2), torch.randn(1, 3, 6), torch.ones(1, 3, 6, dtype=torch.bool)
    mask[0, 1, 3:] = False
    other, wrong = states.clone(), returns.clone()
    other[0, 1, 3:], wrong[0, 1, 3:] = 100.0, -50.0
    kept = linear_baseline(states, returns, mask)[mask]
    torch.testing.assert_close(linear_baseline(other, wrong, mask)[mask], kept, atol=1e-4, rtol=1e-4)
    advantages = standardised(returns, mask)
    torch.testing.assert_close(standardised(wrong, mask), advantages)
    assert advantages[mask].mean().abs() < 1e-6


def test_a_clipped_ratio_has_no_gradient_where_it_would_only_gain_more():
    old, mask = torch.zeros(1, 2, dtype=F64), torch.ones(1, 2, dtype=torch.bool)
    advantages = torch.tensor([[1.0, -1.0]], dtype=F64)
    new = torch.tensor([[0.5, 0.5]], dtype=F64)  # both more likely by exp(0.5) > 1 + 0.2
    gradient = grad(lambda p: likelihood_ratio_loss(p, old, advantages, mask, clip=0.2))(new)
    assert gradient[0, 0] == 0
    torch.testing.assert_close(gradient[0, 1], new[0, 1].exp() / 2)
