"""Measures of inequality between task losses; each is zero if and only if all losses are equal.

Each takes ``[M]`` positive losses and returns a 0-d number that is invariant to the scale of the losses. Jamal and Qi
2019 (https://arxiv.org/abs/1805.07722), section 3.2, with the definitions used in economics.
"""

import math

import torch
from torch import Tensor


def theil(losses: Tensor) -> Tensor:
    """Return Theil's index, (1/M) sum (l/mean) ln(l/mean), 0-d."""
    return torch.xlogy(share(losses), share(losses)).mean()


def generalised_entropy(losses: Tensor, alpha: float) -> Tensor:
    """Return the generalised entropy index, 0-d.

    alpha = 1 is ``theil``, 0 the mean logarithmic deviation, and 2 half the squared coefficient of variation.

    Args:
        losses: ``[M]``.
        alpha: any number; the larger it is, the more weight the largest losses have.
    """
    # at 1 and 0 the general formula is 0 / 0; these are its limits
    if alpha == 1:
        return theil(losses)
    if alpha == 0:
        return -share(losses).log().mean()
    return (share(losses) ** alpha - 1).mean() / (alpha * (alpha - 1))


def atkinson(losses: Tensor, epsilon: float) -> Tensor:
    """Return Atkinson's index, 1 - (mean of (l/mean)^(1 - epsilon))^(1/(1 - epsilon)), 0-d.

    At epsilon = 1 it is one minus the ratio of the geometric to the arithmetic mean.

    Args:
        losses: ``[M]``.
        epsilon: > 0; the larger it is, the more weight the smallest losses have.
    """
    if epsilon == 1:
        return 1 - share(losses).log().mean().exp()
    return 1 - (share(losses) ** (1 - epsilon)).mean() ** (1 / (1 - epsilon))


def gini(losses: Tensor) -> Tensor:
    """Return the Gini coefficient, sum_i sum_j |l_i - l_j| / (2 M^2 mean), 0-d in [0, 1 - 1/M]."""
    # abs has no derivative where two losses are equal; torch takes 0 there
    difference = (losses.unsqueeze(0) - losses.unsqueeze(1)).abs()
    return difference.mean() / (2 * losses.mean())


def variance_of_logs(losses: Tensor) -> Tensor:
    """Return the variance of the log losses, (1/M) sum (ln l - ln g)^2 with the geometric mean g, 0-d.

    Use it with care: unlike the other measures, it may decrease when the largest losses grow.
    """
    logs = share(losses).log()
    return (logs - logs.mean()).square().mean()


def share(losses: Tensor) -> Tensor:
    """Return each loss divided by their mean, ``[M]``; losses are clamped away from zero."""
    # logarithms and powers have no value at 0; the bound is about 1e-19 in float32
    losses = losses.clamp_min(math.sqrt(torch.finfo(losses.dtype).tiny))
    return losses / losses.mean()
