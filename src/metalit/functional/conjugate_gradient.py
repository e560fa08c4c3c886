"""Conjugate gradients: solve A x = b when A is available only through matrix-vector products."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from metalit.functional.vectors import combine, inner_product
from metalit.tasks.parameters import Params
from metalit.tasks.precision import at_least_float32, full_precision


class Solution(NamedTuple):
    """The result of an iterative solver.

    Attributes:
        x: the approximate solution, by parameter name.
        residual: b - A x, by parameter name.
    """

    x: Params
    residual: Params


@full_precision
def conjugate_gradient(
    product: Callable[[Params], Params],
    b: Params,
    steps: int,
    damping: float = 0.0,
    least_curvature: float = 0.0,
) -> Solution:
    """Solve (A + damping I) x = b for a symmetric A, starting at x = 0 (Hestenes and Stiefel 1952).

    Every system of a batch takes the same number of iterations. A system stops moving once it has converged to the
    precision of its dtype. It also stops at a direction p of too little curvature, p'(A + damping I)p <=
    least_curvature p'p: along such a direction an indefinite matrix could move x arbitrarily far.

    Args:
        product: maps v, by parameter name in the shapes of ``b``, to A v.
        b: right-hand side, by parameter name; computed in at least float32.
        steps: number of iterations, >= 0. Up to rounding, the number of distinct eigenvalues of A suffices.
        damping: constant added to the diagonal of A, >= 0.
        least_curvature: curvature at or below which a system stops, >= 0. If all eigenvalues exceed it, no system
            stops early.

    Returns:
        x, and the residual b - A x of the undamped system.
    """
    b = {name: at_least_float32(value) for name, value in b.items()}
    x: Params = {name: torch.zeros_like(value) for name, value in b.items()}
    residual, direction, squared = b, b, inner_product(b, b)
    converged = torch.finfo(squared.dtype).eps ** 2 * squared  # squared is |b|^2 here: relative to the right-hand side
    # no early exit: vmap needs the same iterations for every system, so stopped ones are masked with torch.where
    for _ in range(steps):
        image = combine(product(direction), damping, direction)
        curvature = inner_product(direction, image)
        least = least_curvature * inner_product(direction, direction)
        # Comparisons with NaN are False. Negating "stopped" lets NaN propagate; "squared > converged" would mistake it
        # for convergence.
        moves = ~((squared <= converged) | (curvature <= least))
        # the inner where keeps a division by zero out of the branch that is not taken
        rate = torch.where(moves, squared / torch.where(moves, curvature, 1.0), 0.0)
        x, residual = combine(x, rate, direction), combine(residual, -rate, image)
        before, squared = squared, inner_product(residual, residual)
        turned = combine(residual, squared / torch.where(moves, before, 1.0), direction)
        direction = {name: torch.where(moves, turned[name], direction[name]) for name in direction}
    return Solution(x, combine(residual, damping, x))  # b - A x = (b - (A + damping I) x) + damping x
