"""Labels that are smooth over a graph of nearest neighbours, by bound updates (Ziko et al. 2020)."""

import torch
from torch import Tensor

from metalit.functional.distances import squared_euclidean
from metalit.tasks.precision import full_precision


@full_precision
def nearest_neighbours(x: Tensor, neighbours: int) -> Tensor:
    """Return the graph w ``[n, n]`` with w_ij = 1 if x_j is one of the nearest neighbours of x_i, else 0.

    Args:
        x: ``[n, D]``.
        neighbours: number of others that each is linked to, >= 0; at most n - 1 are.
    """
    n = len(x)
    itself = torch.eye(n, dtype=torch.bool, device=x.device)
    distances = squared_euclidean(x, x).masked_fill(itself, torch.inf)
    nearest = distances.topk(min(neighbours, n - 1), largest=False).indices  # [n, neighbours]
    return (nearest.unsqueeze(-1) == torch.arange(n, device=x.device)).sum(dim=-2).to(x.dtype)


@full_precision
def bound_updates(unary: Tensor, graph: Tensor, smoothness: float, iterations: int) -> Tensor:
    """Return logits of labels that are cheap and agree with their neighbours' labels.

        y_i <- softmax(- unary_i + smoothness sum_j w_ij y_j),    from y_i = softmax(- unary_i)

    Each update minimises a bound of  sum_i <y_i, unary_i> + <y_i, log y_i> - smoothness/2 sum_ij w_ij <y_i, y_j>, so
    this energy never rises if w is symmetric and positive semi-definite (section 2.3 of the paper).

    Args:
        unary: cost of each class, ``[n, N]``.
        graph: w ``[n, n]``.
        smoothness: lambda, >= 0.
        iterations: number of updates, >= 0.

    Returns:
        ``[n, N]``; their softmax is y.
    """
    logits = -unary
    for _ in range(iterations):
        logits = smoothness * graph @ logits.softmax(dim=-1) - unary
    return logits
