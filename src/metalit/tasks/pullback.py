"""Derivatives by autograd, which frees a graph on its way back; ``torch.func`` keeps it, for further derivatives."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metalit.tasks.levels import levels


def can_use_autograd() -> bool:
    """Whether neither the compiler nor a transform of ``torch.func`` is at work, which autograd knows nothing of."""
    return not torch.compiler.is_compiling() and not levels()


def gradients_of(
    results: Sequence[Tensor], values: Sequence[Tensor], cotangent: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return the derivative of results, weighted by a cotangent, with respect to values; 0 where none depends on them.

    Args:
        results: tensors computed from ``values``, all or some of them.
        values: leaves of autograd.
        cotangent: a tensor of the shape of each result.
    """
    pairs = [pair for pair in zip(results, cotangent, strict=True) if pair[0].requires_grad]
    if not pairs:
        return tuple(map(torch.zeros_like, values))
    depending, weights = zip(*pairs, strict=True)
    return torch.autograd.grad(depending, values, weights, allow_unused=True, materialize_grads=True)
