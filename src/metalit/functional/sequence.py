"""Sequences ``[T, C]``: what each step may see of those before it."""

import torch
from torch import Tensor


def delayed(steps: Tensor, delay: int = 1) -> Tensor:
    """Return the steps that stand ``delay`` steps before each one and before the next, zeros before the first.

    Args:
        steps: ``[T, C]``, the sequence.
        delay: >= 1.

    Returns:
        ``[T + 1, C]``, the last row standing ``delay`` steps before the step that would come next.
    """
    return torch.cat([steps.new_zeros(delay, steps.shape[-1]), steps])[: len(steps) + 1]


def past_and_present(steps: int, device: torch.device | None = None) -> Tensor:
    """Return the steps that each step may see, ``[steps, steps]`` bool: those before it, and itself."""
    return torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
