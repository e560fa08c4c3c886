"""Regression by a Gaussian process: conditioning on a task's examples, prediction and marginal likelihood.

Legend: S examples, Q queries. All functions compute in the precision that they are given, which should be float64.
"""

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def padded_covariance(covariance: Tensor, mask: Tensor | None) -> Tensor:
    """Return the covariance of the targets ``[S, S]``, with rows and columns of the identity where there is no example.

    Padding is then independent of the examples and, with a target of 0, changes neither their determinant nor their
    quadratic form.
    """
    if mask is None:
        return covariance
    identity = torch.eye(len(mask), dtype=covariance.dtype, device=covariance.device)
    return torch.where(mask.unsqueeze(0) & mask.unsqueeze(1), covariance, identity)


def cholesky(matrix: Tensor) -> Tensor:
    """Return the lower Cholesky factor of ``[S, S]``; NaN if the matrix is not positive definite."""
    # torch.linalg.cholesky would wait for the device to check the result; the factor of a failure is arbitrary
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return torch.where(failed == 0, factor, torch.full_like(factor, torch.nan))


def conditioned(factor: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return what predictions need: the inverse of the factor ``[S, S]``, and coefficients ``[S, outputs]``.

    The coefficients of the posterior mean are the inverse covariance times the targets.

    Args:
        factor: the Cholesky factor of the targets' covariance, ``[S, S]``.
        targets: less the mean of the process, ``[S, outputs]``; outputs are independent. 0 where there is no example.
    """
    # inverted once, so that a prediction is products alone, which every format of exported models has
    identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse, torch.cholesky_solve(targets, factor)


def negative_log_marginal_likelihood(factor: Tensor, targets: Tensor, examples: Tensor | int) -> Tensor:
    """Return minus the log marginal likelihood of all targets, summed over outputs, in nats, 0-d.

    Args:
        factor: the Cholesky factor of the targets' covariance, ``[S, S]``.
        targets: less the mean of the process, ``[S, outputs]``; 0 where there is no example.
        examples: number of examples without padding.
    """
    outputs = targets.shape[-1]
    # a Python number times the integers that count a mask would be in torch's default precision
    constant = (examples.to(factor.dtype) if isinstance(examples, Tensor) else examples) * LOG_2PI
    whitened: Tensor = torch.linalg.solve_triangular(factor, targets, upper=False)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum()
    total: Tensor = (whitened.square().sum() + outputs * (log_determinant + constant)) / 2
    return total


def posterior(inverse: Tensor, coefficients: Tensor, across: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the process at queries, without noise, ``[Q, outputs]`` and ``[Q]``.

    Args:
        inverse: of the Cholesky factor of the targets' covariance, ``[S, S]``; of ``conditioned``, as the next.
        coefficients: of the posterior mean, ``[S, outputs]``.
        across: covariance of examples and queries, ``[S, Q]``; 0 where there is no example.
        variance: of the process at the queries before conditioning, ``[Q]``.
    """
    explained = (inverse @ across).square().sum(dim=0)
    # where an example lies at the query, rounding may make the difference negative
    return across.mT @ coefficients, (variance - explained).clamp(min=0)
