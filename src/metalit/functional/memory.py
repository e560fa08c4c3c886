"""Addressing of an external memory (Graves et al. 2014; Santoro et al. 2016, section 3).

Legend: R heads, N slots, M the length of a slot. Functions whose shapes begin with ``...`` take any leading axes.
"""

import torch
from torch import Tensor

from metalit.tasks.precision import full_precision

SMALL = 1e-6  # avoids a division by zero at empty slots


@full_precision
def cosine_similarity(keys: Tensor, memory: Tensor) -> Tensor:
    """Return the cosines ``[..., R, N]`` of keys ``[..., R, M]`` and slots ``[..., N, M]``; 0 for empty slots."""
    lengths = keys.square().sum(-1).unsqueeze(-1) * memory.square().sum(-1).unsqueeze(-2)
    # SMALL is added inside the square root, whose derivative at 0 is infinite
    return keys @ memory.transpose(-1, -2) / (lengths + SMALL).sqrt()


def read_weights(keys: Tensor, memory: Tensor, strength: float = 1.0) -> Tensor:
    """Return the read weights of each head, ``[..., R, N]``: a softmax over slots of ``strength`` times the cosines."""
    return (strength * cosine_similarity(keys, memory)).softmax(dim=-1)


@full_precision
def mixtures(weights: Tensor, slots: Tensor) -> Tensor:
    """Return weighted sums ``[Q, ...]`` of slots ``[S, ...]`` of any shape, with weights ``[Q, S]``."""
    return (weights @ slots.flatten(1)).reshape(-1, *slots.shape[1:])


def least_used(usage: Tensor, heads: int) -> Tensor:
    """Return the least used slots one-hot, one per head, with the least used of all for the first head.

    Args:
        usage: usage of each slot, ``[..., N]``; no gradient flows through it.
        heads: R, at most N.

    Returns:
        One-hot slots ``[..., heads, N]``.
    """
    # all slots are equally unused at first; a stable sort breaks such ties by slot number, on every device
    slots = usage.detach().argsort(dim=-1, stable=True)[..., :heads]
    return (slots.unsqueeze(-1) == torch.arange(usage.shape[-1], device=usage.device)).to(usage.dtype)


def write_weights(gate: Tensor, last_read: Tensor, free: Tensor) -> Tensor:
    """Return the write weights of each head, ``[..., R, N]``: between the last read slots and the least used one.

    Args:
        gate: ``[..., R, 1]`` in (0, 1): 1 updates the slots read last, 0 takes the least used slot.
        last_read: read weights of the previous step, ``[..., R, N]``.
        free: the least used slots one-hot, ``[..., R, N]``.
    """
    return gate * last_read + (1 - gate) * free


def write(memory: Tensor, weights: Tensor, content: Tensor, erased: Tensor) -> Tensor:
    """Return the memory after erasing a slot and then adding what the heads write, ``[..., N, M]``.

    Args:
        memory: ``[..., N, M]``.
        weights: write weights of the heads, ``[..., R, N]``.
        content: what each head writes, ``[..., R, M]``.
        erased: the slot that is set to zero first, one-hot ``[..., N]``.
    """
    return memory * (1 - erased).unsqueeze(-1) + weights.transpose(-1, -2) @ content
