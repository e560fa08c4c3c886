"""The dual of Crammer and Singer's multi-class support vector machine, by an interior-point method."""

import torch
from torch import Tensor

from metalit.functional.ridge import identity_like, solve
from metalit.tasks.precision import full_precision

CENTRING = 0.1  # what share of the complementarity an iteration leaves
TO_THE_BOUNDARY = 0.99  # how far a step may go


@full_precision
def crammer_singer(kernel: Tensor, members: Tensor, cost: float, iterations: int = 15) -> Tensor:
    """Return the dual variables A of a linear multi-class support vector machine.

        minimise  1/2 tr(A' K A) - <A, Y>    over A [n, N],    A <= cost Y,    rows of A sum to 0

    Class k's weights are then x' A_k. A primal-dual interior-point method: every system takes the same number of
    iterations, in float64. The derivative with respect to K is that of the solution, by the implicit function theorem
    at the last point of the central path, not that of the iterations; it has no second derivative.

    Args:
        kernel: K ``[n, n]``, positive definite.
        members: Y ``[n, N]``, one-hot labels of 0 and 1.
        cost: C, > 0.
        iterations: >= 1; each makes the duality gap about ten times smaller. After 15 it is 1e-11, and 1e-7 where the
            eigenvalues of K are in the tens of thousands.

    Returns:
        ``[n, N]`` in the dtype of ``kernel``.
    """
    exact, targets = kernel.double(), members.double()
    fixed, bound = exact.detach(), cost * targets
    found, dual = feasible(bound), torch.ones_like(bound)
    slack = bound - found
    for _ in range(iterations):
        gap = CENTRING * (slack * dual).mean()
        step = newton(fixed, dual / slack, targets - fixed @ found - gap / slack)
        dual_step = (gap + dual * step) / slack - dual
        rate = torch.minimum(longest(slack, -step), longest(dual, dual_step))
        found, slack, dual = found + rate * step, slack - rate * step, dual + rate * dual_step
    # one more Newton step on the conditions of optimality, in which K alone is not a constant
    return (found + newton(fixed, dual / slack, targets - exact @ found - dual)).to(kernel.dtype)


def newton(kernel: Tensor, weights: Tensor, b: Tensor) -> Tensor:
    """Solve  K X + W * X + v 1' = b  for X ``[n, N]`` whose rows sum to 0, and v ``[n]``; W ``[n, N]`` is positive.

    As one system with v among the unknowns, in which W stands on the diagonal: there it may grow without bounds.
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
    """Return a point well below the bounds whose rows sum to 0."""
    others = bound.shape[-1] - 1
    return bound / 2 - (bound.sum(dim=-1, keepdim=True) - bound) / (2 * others)


def longest(position: Tensor, step: Tensor) -> Tensor:
    """Return the longest step, at most 1, by which positive numbers stay positive, 0-d."""
    ratio = torch.where(step < 0, -position / step, torch.inf)
    return (TO_THE_BOUNDARY * ratio.min()).clamp(max=1.0)
