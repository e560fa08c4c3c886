"""Estimates of the policy gradient from trajectories.

Legend: n trajectories, H time steps; leading axes are those of tasks.
"""

from typing import Literal

import torch
from torch import Tensor

from metalit.functional.ridge import ridge_regression
from metalit.tasks.precision import full_precision

Surrogate = Literal["low_variance", "dice", "score"]


def discounted_sums(values: Tensor, factor: float) -> Tensor:
    """Return the sum of ``factor^k values[t + k]`` over k >= 0 at each time step, ``[..., H]``."""
    total, sums = torch.zeros_like(values[..., 0]), []
    for value in values.flip(-1).unbind(-1):
        total = value + factor * total
        sums.append(total)
    return torch.stack(sums[::-1], dim=-1)


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, discount: float = 0.99, trace: float = 1.0
) -> Tensor:
    """Return generalised advantage estimates (Schulman et al. 2016, equation 16), ``[..., n, H]``.

    Args:
        rewards: ``[..., n, H]``.
        values: ``[..., n, H]``, a baseline of the discounted sum of rewards from each step on.
        mask: ``[..., n, H]`` bool, False after the end of a trajectory. Nothing is worth anything after it.
        discount: gamma, in [0, 1].
        trace: lambda, in [0, 1]; 1 for discounted returns minus the baseline.
    """
    rewards, values = rewards * mask, values * mask
    following = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], dim=-1)
    return discounted_sums(rewards + discount * following - values, discount * trace) * mask


@full_precision
def linear_baseline(states: Tensor, returns: Tensor, mask: Tensor, ridge: float = 1e-5) -> Tensor:
    """Fit returns by a linear function of simple features, and return its values ``[..., n, H]``.

    The features are the state, its square, t/100, its square and cube, and 1 (Duan et al. 2016, appendix).

    Args:
        states: observations, ``[..., n, H, S]``.
        returns: ``[..., n, H]``.
        mask: ``[..., n, H]`` bool.
        ridge: strength of the penalty on the squared weights, > 0.
    """
    time = torch.arange(states.shape[-2], dtype=states.dtype, device=states.device) / 100
    clock = torch.stack([time, time**2, time**3, torch.ones_like(time)], dim=-1)
    features = torch.cat([states, states**2, clock.expand(*states.shape[:-1], 4)], dim=-1)
    rows = (features * mask[..., None]).flatten(-3, -2)
    # in float64, for features such as one-hot actions and their squares are the same
    weights = ridge_regression(rows, (returns * mask).flatten(-2)[..., None], ridge)
    return (features.flatten(-3, -2) @ weights)[..., 0].reshape(returns.shape)


def standardised(advantages: Tensor, mask: Tensor) -> Tensor:
    """Return advantages of mean 0 and standard deviation 1 over the steps of each task, ``[..., n, H]``."""
    count = mask.sum(dim=(-2, -1), keepdim=True)
    centred = (advantages - (advantages * mask).sum(dim=(-2, -1), keepdim=True) / count) * mask
    return centred / (centred.square().sum(dim=(-2, -1), keepdim=True) / count + 1e-8).sqrt()


def mean_over_steps(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over all steps of one task's trajectories, 0-d."""
    return (values * mask).sum() / mask.sum()


def score_function_loss(log_probs: Tensor, advantages: Tensor, mask: Tensor, surrogate: Surrogate) -> Tensor:
    """Return a loss whose gradient is minus the policy gradient, per step; 0-d.

    Its value has no meaning. The surrogates differ in the second derivative, which the meta-gradient goes through:

        score:         log pi_t A_t                    its own second derivative alone, not that of the return
        low_variance:  (pi_t / const) A_t              LVC of ProMP (Rothfuss et al. 2019): right for one time step,
                                                       without the terms of pairs of steps, which are noisy
        dice:          (prod_{s<=t} - prod_{s<t}) A_t  loaded DiCE (Farquhar et al. 2019), products of pi_s / const:
                                                       that of the expected return, for exact advantages

    Args:
        log_probs: of the actions under the policy, ``[n, H]``.
        advantages: ``[n, H]``.
        mask: ``[n, H]`` bool.
        surrogate: as above.
    """
    change = (log_probs - log_probs.detach()) * mask
    if surrogate == "score":
        weights = log_probs
    elif surrogate == "low_variance":
        weights = change.exp()
    else:
        until = change.cumsum(dim=-1)
        weights = until.exp() - (until - change).exp()
    return -mean_over_steps(weights * advantages, mask)


def likelihood_ratio_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: float | None = None
) -> Tensor:
    """Return minus the importance-weighted advantage per step, 0-d.

    Args:
        log_probs: of the actions under the policy, ``[n, H]``.
        old_log_probs: under the policy that took them, ``[n, H]``.
        advantages: ``[n, H]``.
        mask: ``[n, H]`` bool.
        clip: epsilon of PPO's clipped objective (Schulman et al. 2017, equation 7); none if not given.
    """
    # of steps after the end, whose actions may be anything, the ratio is 1
    ratio = ((log_probs - old_log_probs) * mask).exp()
    gain = ratio * advantages
    if clip is not None:
        gain = torch.minimum(gain, ratio.clamp(1 - clip, 1 + clip) * advantages)
    return -mean_over_steps(gain, mask)
