"""Linear systems A x = b whose matrix is known by its products with vectors alone."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from metalit.functional.vectors import combine, inner_product
from metalit.tasks.parameters import Params
from metalit.tasks.precision import at_least_float32, full_precision


class Solution(NamedTuple):
    """What an iterative solver has found.

    Attributes:
        x: the solution, by name.
        residual: b - A x, by name.
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
    """Solve (A + damping I) x = b from x = 0 (Hestenes and Stiefel 1952), for a symmetric A.

    Every system of a batch takes the same number of iterations. One that has converged to the precision of its numbers
    stays where it is; so does one that meets a direction p of too little curvature, p'(A + damping I)p <=
    least_curvature p'p, along which an indefinite matrix would send it anywhere.

    Args:
        product: from v, by name in the shapes of ``b``, to A v.
        b: the right-hand side; taken as at least float32.
        steps: iterations, >= 0. The number of distinct eigenvalues of A is enough, save for rounding.
        damping: what is added to the diagonal of A, >= 0.
        least_curvature: where to stop, >= 0; with eigenvalues all above it, nothing is stopped.

    Returns:
        x and the residual b - A x of the system without damping.
    """
    b = {name: at_least_float32(value) for name, value in b.items()}
    x: Params = {name: torch.zeros_like(value) for name, value in b.items()}
    residual, direction, squared = b, b, inner_product(b, b)
    converged = torch.finfo(squared.dtype).eps ** 2 * squared
    for _ in range(steps):
        image = combine(product(direction), damping, direction)
        curvature = inner_product(direction, image)
        least = least_curvature * inner_product(direction, direction)
        # in this form what is not a number goes on, and is seen, instead of looking like a system at rest
        moves = ~((squared <= converged) | (curvature <= least))
        rate = torch.where(moves, squared / torch.where(moves, curvature, 1.0), 0.0)
        x, residual = combine(x, rate, direction), combine(residual, -rate, image)
        before, squared = squared, inner_product(residual, residual)
        turned = combine(residual, squared / torch.where(moves, before, 1.0), direction)
        direction = {name: torch.where(moves, turned[name], direction[name]) for name in direction}
    return Solution(x, combine(residual, damping, x))
