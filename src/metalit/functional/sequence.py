"""Causality in sequences ``[T, C]``: which earlier steps each step may see."""

import torch
from torch import Tensor


def delayed(steps: Tensor, delay: int = 1) -> Tensor:
    """Return the sequence shifted by ``delay`` steps, padded with zeros at the front.

    Args:
        steps: the sequence, ``[T, C]``.
        delay: >= 1.

    Returns:
        ``[T + 1, C]``: row t is step t - delay. The last row belongs to the step that would come next.
    """
    return torch.cat([steps.new_zeros(delay, steps.shape[-1]), steps])[: len(steps) + 1]


def past_and_present(steps: int, device: torch.device | None = None) -> Tensor:
    """Return the causal mask ``[steps, steps]``, bool: each step (row) sees the steps before it and itself."""
    return torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
