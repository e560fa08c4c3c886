"""Measures of inequality between the losses of tasks, all zero exactly where the losses are equal.

Each takes ``[M]`` positive losses and returns a 0-d number that does not change when all losses are multiplied by the
same factor. Jamal and Qi 2019 (https://arxiv.org/abs/1805.07722), section 3.2, with the definitions of economics.
"""

import math

import torch
from torch import Tensor


def theil(losses: Tensor) -> Tensor:
    """Return Theil's index, (1/M) sum (l/mean) ln(l/mean)."""
    return torch.xlogy(share(losses), share(losses)).mean()


def generalised_entropy(losses: Tensor, alpha: float) -> Tensor:
    """Return the generalised entropy index; 1 is ``theil``, 0 the mean logarithmic deviation, 2 half of CV squared.

    Args:
        losses: ``[M]``.
        alpha: any number; the larger, the more the largest losses weigh.
    """
    if alpha == 1:
        return theil(losses)
    if alpha == 0:
        return -share(losses).log().mean()
    return (share(losses) ** alpha - 1).mean() / (alpha * (alpha - 1))


def atkinson(losses: Tensor, epsilon: float) -> Tensor:
    """Return Atkinson's index, 1 - (mean of (l/mean)^(1 - epsilon))^(1/(1 - epsilon)); at 1, with the geometric mean.

    Args:
        losses: ``[M]``.
        epsilon: > 0; the larger, the more the smallest losses weigh.
    """
    if epsilon == 1:
        return 1 - share(losses).log().mean().exp()
    return 1 - (share(losses) ** (1 - epsilon)).mean() ** (1 / (1 - epsilon))


def gini(losses: Tensor) -> Tensor:
    """Return Gini's coefficient, sum_i sum_j |l_i - l_j| / (2 M^2 mean); between 0 and 1 - 1/M."""
    difference = (losses.unsqueeze(0) - losses.unsqueeze(1)).abs()
    return difference.mean() / (2 * losses.mean())


def variance_of_logs(losses: Tensor) -> Tensor:
    """Return (1/M) sum (ln l - ln g)^2 with the geometric mean g.

    It may fall when the largest losses grow: the only measure here that can, so to be used with care.
    """
    logs = share(losses).log()
    return (logs - logs.mean()).square().mean()


def share(losses: Tensor) -> Tensor:
    """Return each loss over the mean of all, after keeping it away from zero."""
    losses = losses.clamp_min(math.sqrt(torch.finfo(losses.dtype).tiny))
    return losses / losses.mean()
