"""Multinomial logistic regression of many examples or classes: Newton's method with conjugate gradients."""

import torch
from torch import Tensor

from metalit.functional.conjugate_gradient import conjugate_gradient
from metalit.tasks.parameters import Params
from metalit.tasks.precision import full_precision

HALVINGS = 12  # step sizes tried at each iteration: 1, 1/2, ... 2^-11
CG_STEPS = 40


@full_precision
def logistic_regression_of_many(
    x: Tensor, members: Tensor, strength: float, iterations: int = 15
) -> tuple[Tensor, Tensor]:
    """Return the minimiser (W, b) of ``logistic_regression``, without solving a system of all examples and classes.

    Each of Newton's steps is found by conjugate gradients, which need products with the examples alone. The result has
    no derivative.

    Args:
        x: ``[n, D]``.
        members: Y ``[n, N]``, one-hot labels; zeros for padding.
        strength: lambda, > 0; the smaller, the slower the convergence.
        iterations: number of iterations, >= 1.

    Returns:
        W ``[D, N]`` and b ``[N]`` with mean 0, in the dtype of ``x``.
    """
    # a constant 1 at the end of each example makes b a row of W; only it is without a penalty
    rows = torch.cat([x.detach().double(), torch.ones_like(x[:, :1], dtype=torch.float64)], dim=1)
    targets = members.double()
    penalty = torch.full_like(rows[0], strength)
    penalty[-1] = 0
    weight = rows.new_zeros(rows.shape[1], targets.shape[1])
    for _ in range(iterations):
        # an example of no class is padding and has no probabilities
        p = (rows @ weight).softmax(dim=-1) * targets.sum(dim=-1, keepdim=True)
        gradient = rows.mT @ (p - targets) + penalty.unsqueeze(-1) * weight

        def curved(v: Params, p: Tensor = p) -> Params:
            moved = p * (rows @ v["weight"])
            spread = moved - p * moved.sum(dim=-1, keepdim=True)
            return {"weight": rows.mT @ spread + penalty.unsqueeze(-1) * v["weight"]}

        step = -conjugate_gradient(curved, {"weight": gradient}, CG_STEPS).x["weight"]
        weight = weight + best_rate(rows, targets, penalty, weight, step) * step
    bias = weight[-1] - weight[-1].mean()
    return weight[:-1].to(x.dtype), bias.to(x.dtype)


def best_rate(rows: Tensor, targets: Tensor, penalty: Tensor, weight: Tensor, step: Tensor) -> Tensor:
    """Return the step size among 1, 1/2, 1/4, ... at which the penalised loss is lowest, 0-d."""
    now, along = rows @ weight, rows @ step
    rates = 0.5 ** torch.arange(HALVINGS, dtype=rows.dtype, device=rows.device)
    losses = []
    for rate in rates:
        penalised = (penalty.unsqueeze(-1) * (weight + rate * step).square()).sum() / 2
        losses.append(penalised - (targets * (now + rate * along).log_softmax(dim=-1)).sum())
    # index_select, since vmap forbids an index that is read off a tensor
    return rates.index_select(0, torch.stack(losses).argmin().reshape(1)).reshape(())
