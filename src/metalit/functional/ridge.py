"""Ridge regression in closed form."""

import torch
from torch import Tensor

from metalit.functional.masks import without_padding
from metalit.tasks.precision import full_precision


@full_precision
def ridge_regression(x: Tensor, y: Tensor, strength: Tensor | float, mask: Tensor | None = None) -> Tensor:
    """Return the minimiser W of ||x W - y||^2 + strength ||W||^2.

    It solves the smaller of two systems: (x'x + strength I) W = x'y, or W = x'(xx' + strength I)^-1 y. Both are solved
    in float64.

    Args:
        x: ``[n, D]``.
        y: ``[n, N]``.
        strength: lambda, > 0.
        mask: ``[n]`` bool, True where there is an example; None if there is one at every place.

    Returns:
        W ``[D, N]`` in the dtype of ``x``.
    """
    # a row of zeros adds nothing to x'x and x'y; in the dual its coefficient is multiplied by that row
    x, y = without_padding(x, mask), without_padding(y, mask)
    # few-shot tasks have few examples of long embeddings, so the dual is usually much smaller
    n, features = x.shape[-2:]
    form = ridge_primal if features <= n else ridge_dual
    exact = strength.double() if isinstance(strength, Tensor) else strength
    return form(x.double(), y.double(), exact).to(x.dtype)


def ridge_primal(x: Tensor, y: Tensor, strength: Tensor | float) -> Tensor:
    """Return W ``[D, N]`` from a system of D equations."""
    return solve(x.mT @ x + strength * identity_like(x.mT), x.mT @ y)


def ridge_dual(x: Tensor, y: Tensor, strength: Tensor | float) -> Tensor:
    """Return W ``[D, N]`` from a system of n equations (Woodbury's identity)."""
    return x.mT @ solve(x @ x.mT + strength * identity_like(x), y)


def identity_like(x: Tensor) -> Tensor:
    """Return the identity matrix with as many rows as ``x``, in its dtype and on its device."""
    return torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)


def solve(matrix: Tensor, b: Tensor) -> Tensor:
    """Return X with ``matrix X = b``; non-finite if the matrix is singular or contains NaN."""
    # torch.linalg.solve would wait for the device to check the result, and raise for a singular matrix
    solution: Tensor = torch.linalg.solve_ex(matrix, b)[0]
    return solution
