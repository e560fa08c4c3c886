"""Optimal transport with entropic regularisation (Cuturi 2013), by Sinkhorn's iterations."""

import math

from torch import Tensor

from metalit.tasks.precision import full_precision


@full_precision
def sinkhorn(cost: Tensor, sharpness: float, iterations: int) -> Tensor:
    """Return the log of the transport plan between n sources of mass 1 and N targets of mass n/N.

        P = argmin <P, cost> + 1/sharpness sum P log P    over P >= 0 with rows that sum to 1 and columns to n/N

    The plan is P_ik = exp(-sharpness cost_ik + f_i + g_k); f and g are found by scaling columns and rows in turn, in
    the log domain, so nothing underflows. The rows are scaled last, so they sum to 1 exactly.

    Args:
        cost: ``[n, N]``.
        sharpness: lambda, > 0; the larger, the closer the plan is to a hard assignment, and the slower the convergence.
        iterations: >= 1; their number is fixed, so that tasks can be solved side by side.

    Returns:
        log P, ``[n, N]``.
    """
    sources, targets = cost.shape[-2:]
    log_plan = -sharpness * cost
    share = math.log(sources / targets)
    for _ in range(iterations):
        log_plan = log_plan - log_plan.logsumexp(dim=-2, keepdim=True) + share
        log_plan = log_plan.log_softmax(dim=-1)
    return log_plan
