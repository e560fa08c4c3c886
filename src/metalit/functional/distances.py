"""Formulas of distances, and sums and means by class; the classes that heads are built with: ``heads.similarities``."""

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.tasks.precision import full_precision


@full_precision
def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Return squared Euclidean distances, summed (not averaged) over dimensions.

    Args:
        a: ``[n, D]``.
        b: ``[m, D]``.

    Returns:
        ``[n, m]``, ||a_i - b_j||^2.
    """
    # the expansion |a|^2 - 2 a'b + |b|^2 would lose digits to cancellation between close embeddings
    return (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(dim=-1)


@full_precision
def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosines of all pairs of ``[n, D]`` and ``[m, D]`` vectors, ``[n, m]``; 0 for a zero vector."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT


@full_precision
def class_sums(x: Tensor, y: Tensor, ways: int, mask: Tensor | None = None) -> Tensor:
    """Return the sum of the examples of each class.

    Args:
        x: ``[n, ...]``.
        y: ``[n]`` int64 labels in 0..ways-1.
        ways: N.
        mask: ``[n]`` bool, True where there is an example; None if there is one at every place.

    Returns:
        ``[N, ...]``.
    """
    return (membership(y, ways, x, mask) @ x.flatten(1)).reshape(ways, *x.shape[1:])


@full_precision
def class_means(x: Tensor, y: Tensor, ways: int, mask: Tensor | None = None) -> Tensor:
    """Return the mean of the examples of each class.

    Args:
        x: ``[n, ...]``.
        y: ``[n]`` int64 labels in 0..ways-1, each at least once.
        ways: N.
        mask: ``[n]`` bool, True where there is an example; None if there is one at every place.

    Returns:
        ``[N, ...]``.
    """
    members = membership(y, ways, x, mask)
    return (members @ x.flatten(1) / members.sum(dim=1, keepdim=True)).reshape(ways, *x.shape[1:])


def membership(y: Tensor, ways: int, like: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the labels ``[n]`` one-hot with the classes first, ``[ways, n]`` in the dtype of ``like``.

    Where ``mask [n]`` is False, there is no example: it belongs to no class.
    """
    # by comparison, since F.one_hot reads the labels' values, which vmap forbids where a gradient is taken
    members = y.unsqueeze(0) == torch.arange(ways, device=y.device).unsqueeze(1)
    return (members if mask is None else members & mask).to(like.dtype)
