"""Multinomial logistic regression with an L2 penalty, solved by Newton's method in the dual variables."""

import torch
from torch import Tensor

from metalit.functional.ridge import identity_like, solve
from metalit.tasks.precision import full_precision

HALVINGS = 12  # step sizes tried at each iteration: 1, 1/2, ... 2^-11


@full_precision
def logistic_regression(x: Tensor, members: Tensor, strength: float, iterations: int = 15) -> tuple[Tensor, Tensor]:
    """Return the minimiser (W, b) of  sum_i CE(x_i W + b, y_i) + strength/2 ||W||^2.

    The solution has W = x'A with strength A = Y - P, P the probabilities that it gives to the examples; Newton's method
    solves this equation for A and b in float64, with the step size of the lowest loss among a few, so it converges from
    any start. The number of iterations is fixed. The derivative with respect to ``x`` is that of the solution, by the
    implicit function theorem at the last iterate, and there is no second derivative.

    Args:
        x: ``[n, D]``.
        members: Y ``[n, N]``, one-hot labels; zeros for padding.
        strength: lambda, > 0; the inverse of scikit-learn's C.
        iterations: number of iterations, >= 1. Convergence is quadratic: 15 leave a gradient of about 1e-10.

    Returns:
        W ``[D, N]`` and b ``[N]`` with mean 0, in the dtype of ``x``.
    """
    live, targets = x.double(), members.double()
    kernel = live @ live.mT
    fixed = kernel.detach()  # the iterations keep no graph
    dual, bias = torch.zeros_like(targets), torch.zeros_like(targets[0])
    for _ in range(iterations):
        steps = newton(fixed, targets, dual, bias, strength)
        rate = best_rate(fixed, targets, (dual, bias), steps, strength)
        dual, bias = dual + rate * steps[0], bias + rate * steps[1]
    # one more step, in which only the kernel is not a constant: its derivative is that of the solution
    step, shift = newton(kernel, targets, dual, bias, strength, curvature_of=fixed)
    return (live.mT @ (dual + step)).to(x.dtype), (bias + shift).to(x.dtype)


def newton(
    kernel: Tensor,
    targets: Tensor,
    dual: Tensor,
    bias: Tensor,
    strength: float,
    curvature_of: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return Newton's steps of A ``[n, N]`` and b ``[N]`` on  strength A + P - Y = 0  and  sum_i A_i + mean(b) = 0.

    Args:
        kernel: K ``[n, n]`` of the equations.
        targets: Y ``[n, N]``.
        dual: A ``[n, N]``.
        bias: b ``[N]``.
        strength: lambda.
        curvature_of: the constant kernel of the equations' derivative; default: ``kernel``.
    """
    n, ways = targets.shape
    # an example of no class is padding and has no probabilities: its dual variables stay 0
    p = (kernel @ dual + bias).softmax(dim=-1) * targets.sum(dim=-1, keepdim=True)
    fixed = p.detach()
    # the derivative of an example's probabilities with respect to its logits, [n, N, N]
    spread = torch.diag_embed(fixed) - fixed.unsqueeze(-1) * fixed.unsqueeze(-2)
    inner = torch.einsum("ikl,ij->ikjl", spread, kernel if curvature_of is None else curvature_of)
    upper = inner.reshape(n * ways, n * ways) + strength * torch.eye(n * ways, dtype=p.dtype, device=p.device)
    within = identity_like(spread[0])
    sums = within.repeat(1, n)  # [N, n N]: sums the examples' steps of each class
    # the softmax ignores the mean of b, which this corner therefore ties to 0
    corner = torch.full_like(within, 1 / ways)
    system = torch.cat([torch.cat([upper, spread.reshape(n * ways, ways)], 1), torch.cat([sums, corner], 1)])
    residual = torch.cat([(strength * dual + p - targets).reshape(-1), dual.sum(dim=0) + bias.mean()])
    step = -solve(system, residual.unsqueeze(-1)).squeeze(-1)
    return step[: n * ways].reshape(n, ways), step[n * ways :]


def best_rate(
    kernel: Tensor, targets: Tensor, now: tuple[Tensor, Tensor], step: tuple[Tensor, Tensor], strength: float
) -> Tensor:
    """Return the step size among 1, 1/2, 1/4, ... at which the penalised loss is lowest, 0-d."""
    rates = 0.5 ** torch.arange(HALVINGS, dtype=kernel.dtype, device=kernel.device)
    dual = now[0] + rates[:, None, None] * step[0]
    scores = kernel @ dual  # [rates, n, N]
    logits = scores + now[1] + rates[:, None, None] * step[1]
    loss = -(targets * logits.log_softmax(dim=-1)).sum(dim=(1, 2)) + strength / 2 * (dual * scores).sum(dim=(1, 2))
    # index_select, since vmap forbids an index that is read off a tensor
    return rates.index_select(0, loss.argmin().reshape(1)).reshape(())
