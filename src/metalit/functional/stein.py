"""Stein variational gradient descent (Liu and Wang 2016, https://arxiv.org/abs/1608.04471)."""

import math

import torch
from torch import Tensor

from metalit.functional.distances import squared_euclidean
from metalit.tasks.precision import full_precision


@full_precision
def stein_direction(particles: Tensor, gradients: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the direction to subtract from the particles so that they approach the density exp(-loss / temperature).

    For particle m it is (1/M) sum_j [k(j, m) gradient_j - temperature grad_j k(j, m)]. The first term averages the loss
    gradients of nearby particles, the second one pushes particles apart. The kernel is k = exp(-d^2 / h), with d the
    distance of two particles and h = median(d^2) / log M over all pairs; h is a constant in derivatives. A single
    particle follows its own gradient.

    Args:
        particles: ``[M, P]``.
        gradients: gradient of the loss at each particle, ``[M, P]``.
        temperature: strength of the repulsion between particles, >= 0.

    Returns:
        ``[M, P]``.
    """
    count = len(particles)
    if count == 1:
        return gradients  # the kernel is 1, and the bandwidth would divide by log M = 0
    squares = squared_euclidean(particles, particles)
    kernel = (-squares / bandwidth(squares.detach())).exp()
    # sum_j k(j, m) (particle_m - particle_j); 2 / h times it is sum_j grad_j k(j, m), by the chain rule
    repulsion = kernel.sum(dim=0).unsqueeze(-1) * particles - kernel @ particles
    attraction = kernel @ gradients
    return (attraction - 2 * temperature / bandwidth(squares.detach()) * repulsion) / count


def bandwidth(squares: Tensor) -> Tensor:
    """Return the kernel bandwidth h, 0-d, for squared distances ``[M, M]``, M > 1."""
    # pairs above the diagonal: a particle's zero distance to itself does not count
    count = len(squares)
    rows, columns = torch.triu_indices(count, count, offset=1, device=squares.device)
    pairs = squares[rows, columns].sort().values
    # the mean of the two middle values; torch.median takes the lower one
    median = (pairs[(len(pairs) - 1) // 2] + pairs[len(pairs) // 2]) / 2
    # the clamp avoids a division by zero if all particles are equal
    return median.clamp_min(torch.finfo(squares.dtype).tiny) / math.log(count)
