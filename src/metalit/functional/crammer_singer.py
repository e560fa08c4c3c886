"""Crammer and Singer's multi-class support vector machine, solved in the dual by an interior-point method."""

import torch
from torch import Tensor

from metalit.functional.ridge import identity_like, solve
from metalit.tasks.precision import full_precision

CENTRING = 0.1  # the centring parameter: the target duality gap of an iteration, relative to the current one
TO_THE_BOUNDARY = 0.99  # fraction of the step to the boundary: slack and dual variables stay strictly positive


@full_precision
def crammer_singer(kernel: Tensor, members: Tensor, cost: float, iterations: int = 15) -> Tensor:
    """Return the dual variables A of a linear multi-class support vector machine.

        minimise  1/2 tr(A' K A) - <A, Y>    over A [n, N],    A <= cost Y,    rows of A sum to 0

    With the support embeddings x, the weights of class k are x' A_k. The solver is a primal-dual interior-point method
    in float64 with a fixed number of iterations. The derivative with respect to K is that of the solution, by the
    implicit function theorem at the last point of the central path. The iterations are not differentiated, and there is
    no second derivative.

    Args:
        kernel: K ``[n, n]``, positive definite.
        members: Y ``[n, N]``, one-hot labels.
        cost: C, > 0.
        iterations: number of iterations, >= 1. Each reduces the duality gap about tenfold: after 15 it is 1e-11, or
            1e-7 if the eigenvalues of K are in the tens of thousands.

    Returns:
        A ``[n, N]`` in the dtype of ``kernel``.
    """
    exact, targets = kernel.double(), members.double()
    fixed, bound = exact.detach(), cost * targets  # the iterations run on constants and keep no graph
    found, dual = feasible(bound), torch.ones_like(bound)
    slack = bound - found
    # Each iteration is a Newton step on the perturbed optimality conditions, with slack = bound - A and slack * dual =
    # gap. The number of iterations is fixed, so that tasks can be solved side by side and compiled.
    for _ in range(iterations):
        gap = CENTRING * (slack * dual).mean()
        step = newton(fixed, dual / slack, targets - fixed @ found - gap / slack)
        dual_step = (gap + dual * step) / slack - dual
        rate = torch.minimum(longest(slack, -step), longest(dual, dual_step))
        found, slack, dual = found + rate * step, slack - rate * step, dual + rate * dual_step
    # One more Newton step on the optimality conditions, in which only K is not a constant: the derivative of this step
    # is the one that the implicit function theorem gives.
    return (found + newton(fixed, dual / slack, targets - exact @ found - dual)).to(kernel.dtype)


def newton(kernel: Tensor, weights: Tensor, b: Tensor) -> Tensor:
    """Solve  K X + W * X + v 1' = b  for X ``[n, N]`` whose rows sum to 0, and v ``[n]``.

    X and v are solved for together, as one linear system. W is added to its diagonal, where even very large entries
    are harmless.

    Args:
        kernel: K ``[n, n]``.
        weights: W ``[n, N]``, > 0.
        b: the right-hand side, ``[n, N]``.

    Returns:
        X ``[n, N]``.
    """
    n, ways = b.shape
    size = n * ways
    within = torch.eye(ways, dtype=kernel.dtype, device=kernel.device)
    matrix = torch.kron(kernel, within) + torch.diag(weights.reshape(size))
    sums = torch.kron(identity_like(kernel), torch.ones_like(b[:1]))  # [n, n N]
    system = torch.cat([torch.cat([matrix, sums.mT], dim=1), torch.cat([sums, torch.zeros_like(kernel)], dim=1)])
    solution = solve(system, torch.cat([b.reshape(size, 1), torch.zeros_like(kernel[:, :1])]))
    return solution[:size].reshape(n, ways)


def feasible(bound: Tensor) -> Tensor:
    """Return a strictly feasible starting point: below the bounds, and with rows that sum to 0."""
    # An interior-point method has to start inside the bounds. These are C for the example's own class and 0 for the
    # others, so C/2 for the former is balanced by equal negative values for the latter.
    others = bound.shape[-1] - 1
    return bound / 2 - (bound.sum(dim=-1, keepdim=True) - bound) / (2 * others)


def longest(position: Tensor, step: Tensor) -> Tensor:
    """Return a step size, at most 1, that keeps ``position`` positive: 0.99 of the largest such one, 0-d."""
    ratio = torch.where(step < 0, -position / step, torch.inf)
    return (TO_THE_BOUNDARY * ratio.min()).clamp(max=1.0)
