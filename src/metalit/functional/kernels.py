"""Covariance functions as formulas; the kernels that a Gaussian process is built with: ``heads.kernels``."""

import math

import torch
from torch import Tensor

from metalit.tasks.precision import full_precision


@full_precision
def squared_exponential(a: Tensor, b: Tensor, length_scale: Tensor | float) -> Tensor:
    """Return exp(-d^2 / (2 length_scale^2)), ``[n, m]``, of the Euclidean distances d of ``[n, D]`` and ``[m, D]``."""
    return (squared_distances(a, b) / (-2 * length_scale**2)).exp()


@full_precision
def matern52(a: Tensor, b: Tensor, length_scale: Tensor | float) -> Tensor:
    """Return the Matérn function of smoothness 5/2 of all pairs, ``[n, m]``.

        (1 + r + r^2 / 3) exp(-r),    r = sqrt(5) d / length_scale

    Args:
        a: ``[n, D]``.
        b: ``[m, D]``.
        length_scale: > 0.
    """
    squared = 5 * squared_distances(a, b) / length_scale**2
    # the root has no derivative at 0, where the function has one, of zero: take the root of another number there
    apart = squared > 0
    r = torch.where(apart, torch.where(apart, squared, torch.ones_like(squared)).sqrt(), torch.zeros_like(squared))
    return (1 + r + squared / 3) * (-r).exp()


@full_precision
def spectral_mixture(a: Tensor, b: Tensor, shares: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
    """Return the spectral mixture function of all pairs, ``[n, m]`` (Wilson and Adams 2013, equation 12).

        sum_q shares_q prod_d exp(-2 pi^2 t_d^2 deviations_qd^2) cos(2 pi t_d means_qd),    t = a_i - b_j

    It is the Fourier transform of a mixture of M Gaussians in the space of frequencies.

    Args:
        a: ``[n, D]``.
        b: ``[m, D]``.
        shares: weights of the Gaussians, ``[M]``, >= 0.
        means: their means, in periods per unit of each dimension, ``[M, D]``.
        deviations: their standard deviations in the same units, ``[M, D]``, > 0.
    """
    total = torch.zeros((), dtype=a.dtype, device=a.device)
    difference = a.unsqueeze(-2) - b.unsqueeze(-3)  # [n, m, D]
    # one Gaussian after the other, because all at once would take M times the memory
    for share, mean, deviation in zip(shares, means, deviations, strict=True):
        envelope = (-2 * (math.pi * difference * deviation).square().sum(dim=-1)).exp()
        total = total + share * envelope * (2 * math.pi * difference * mean).cos().prod(dim=-1)
    return total


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared Euclidean distances of ``[n, D]`` and ``[m, D]``, ``[n, m]``, computed in float64.

    Unlike ``distances.squared_euclidean`` it needs no memory of n m D numbers, for tasks of hundreds of examples. Its
    cancellation between close embeddings costs digits that float64 has to spare.
    """
    one, other = a.double(), b.double()
    lengths = one.square().sum(dim=-1).unsqueeze(-1) + other.square().sum(dim=-1).unsqueeze(-2)
    # rounding may make the difference negative
    return (lengths - 2 * one @ other.mT).clamp(min=0).to(a.dtype)
