"""Squared Mahalanobis distances to classes whose covariances are shrunk towards that of the whole task.

The covariance of class k, of n_k examples, is

    Q_k = lambda_k S_k + (1 - lambda_k) S + strength I,    lambda_k = min(n_k / (n_k + 1), largest)

with S_k the covariance of its examples and S that of all examples of the task, both unbiased.
"""

import torch
from torch import Tensor

from metalit.functional.ridge import identity_like
from metalit.tasks.precision import full_precision


@full_precision
def whiteners(x: Tensor, members: Tensor, strength: float, largest: float = 1.0) -> Tensor:
    """Return matrices W that turn squared Mahalanobis distances into Euclidean ones; see ``squared_mahalanobis``.

    Of the systems of D and of 2 n equations the smaller is solved, in float64.

    Args:
        x: ``[n, D]``.
        members: ``[N, n]``, 1 where an example belongs to a class and 0 elsewhere; an example of no class is ignored.
        strength: weight of the identity, > 0.
        largest: upper limit of lambda, in [0, 1].

    Returns:
        ``[N, min(D, 2 n), D]`` float64.
    """
    roots = covariance_roots(x.double(), members.double(), largest)
    if x.shape[-1] <= roots.shape[-2]:
        covariances = roots.mT @ roots + strength * identity_like(roots.mT)
        return solved(covariances, identity_like(covariances).expand_as(covariances))
    # Woodbury: Q^-1 = (I - R' (strength I + R R')^-1 R) / strength
    return solved(roots @ roots.mT + strength * identity_like(roots), roots)


@full_precision
def squared_mahalanobis(x: Tensor, means: Tensor, whitener: Tensor, strength: float) -> Tensor:
    """Return (x_i - mean_k)' Q_k^-1 (x_i - mean_k).

    Args:
        x: ``[m, D]``.
        means: ``[N, D]``.
        whitener: the return value of ``whiteners``.
        strength: as given to ``whiteners``.

    Returns:
        ``[m, N]``, >= 0, in the dtype of ``x``.
    """
    # in float64 to the end: with the smaller system, the distance is a difference of two larger numbers
    offsets = x.double().unsqueeze(0) - means.double().unsqueeze(1)
    whitened = (offsets @ whitener.mT).square().sum(dim=-1)
    few = whitener.shape[-2] < whitener.shape[-1]
    squared = (offsets.square().sum(dim=-1) - whitened) / strength if few else whitened
    return squared.mT.to(x.dtype)


def covariance_roots(x: Tensor, members: Tensor, largest: float) -> Tensor:
    """Return R ``[N, 2 n, D]`` with R_k' R_k = lambda_k S_k + (1 - lambda_k) S; arguments as of ``whiteners``."""
    present, sizes = members.sum(dim=0), members.sum(dim=1, keepdim=True)
    # the covariance of a single example is 0, by a numerator of 0
    freedom, total = (sizes - 1).clamp(min=1), (present.sum() - 1).clamp(min=1)
    share = (sizes / (sizes + 1)).clamp(max=largest)
    means = members @ x / sizes
    of_class = (share * members / freedom).sqrt().unsqueeze(-1) * (x - means.unsqueeze(1))
    mean = present @ x / present.sum()
    of_task = ((1 - share) * present / total).sqrt().unsqueeze(-1) * (x - mean)
    return torch.cat([of_class, of_task], dim=1)


def solved(matrices: Tensor, right: Tensor) -> Tensor:
    """Return L^-1 ``right`` with L the lower triangular root of positive definite matrices ``[N, m, m]``."""
    # cholesky itself would wait for the device to check the result
    lower = torch.linalg.cholesky_ex(matrices)[0]
    solution: Tensor = torch.linalg.solve_triangular(lower, right, upper=False)
    return solution
