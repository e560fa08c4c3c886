"""Stein variational gradient descent (Liu and Wang 2016, https://arxiv.org/abs/1608.04471)."""

import math

import torch
from torch import Tensor

from metalit.functional.distances import squared_euclidean
from metalit.tasks.precision import full_precision


@full_precision
def stein_direction(particles: Tensor, gradients: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the direction against which particles move towards the density exp(-loss / temperature).

    Of particle m it is (1/M) sum_j [k(j, m) gradient_j - temperature grad_j k(j, m)]: downhill, by the gradients of all
    particles nearby, and away from these. The kernel is k = exp(-d^2 / h), with d the distance of two particles and
    h = median(d^2) / log M over all pairs, held constant in derivatives. A single particle follows its own gradient.

    Args:
        particles: ``[M, P]``.
        gradients: ``[M, P]`` of the loss at each.
        temperature: how much the particles keep apart; >= 0.

    Returns:
        ``[M, P]``.
    """
    count = len(particles)
    if count == 1:
        return gradients  # the kernel is 1, and log M is 0
    squares = squared_euclidean(particles, particles)
    kernel = (-squares / bandwidth(squares.detach())).exp()
    repulsion = kernel.sum(dim=0).unsqueeze(-1) * particles - kernel @ particles
    attraction = kernel @ gradients
    return (attraction - 2 * temperature / bandwidth(squares.detach()) * repulsion) / count


def bandwidth(squares: Tensor) -> Tensor:
    """Return h, 0-d, of squared distances ``[M, M]``, M > 1."""
    count = len(squares)
    rows, columns = torch.triu_indices(count, count, offset=1, device=squares.device)
    pairs = squares[rows, columns].sort().values
    median = (pairs[(len(pairs) - 1) // 2] + pairs[len(pairs) // 2]) / 2
    return median.clamp_min(torch.finfo(squares.dtype).tiny) / math.log(count)
