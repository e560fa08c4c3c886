"""Addressing an external memory (Graves et al. 2014; Santoro et al. 2016, section 3).

R heads, N slots of length M; every function takes any number of leading axes.
"""

import torch
from torch import Tensor

from metalit.tasks.precision import full_precision

SMALL = 1e-6  # against a division by zero at slots that are empty


@full_precision
def cosine_similarity(keys: Tensor, memory: Tensor) -> Tensor:
    """Return the cosines ``[..., R, N]`` of keys ``[..., R, M]`` and slots ``[..., N, M]``; 0 at empty slots."""
    lengths = keys.square().sum(-1).unsqueeze(-1) * memory.square().sum(-1).unsqueeze(-2)
    return keys @ memory.transpose(-1, -2) / (lengths + SMALL).sqrt()


def read_weights(keys: Tensor, memory: Tensor, strength: float = 1.0) -> Tensor:
    """Return how much each head reads of each slot, ``[..., R, N]``: the softmax of ``strength`` times the cosines."""
    return (strength * cosine_similarity(keys, memory)).softmax(dim=-1)


@full_precision
def mixtures(weights: Tensor, slots: Tensor) -> Tensor:
    """Return weighted sums ``[Q, ...]`` of slots ``[S, ...]`` of any shape, by weights ``[Q, S]``."""
    return (weights @ slots.flatten(1)).reshape(-1, *slots.shape[1:])


def least_used(usage: Tensor, heads: int) -> Tensor:
    """Return the slots used least, one for each head and the least of all for the first.

    Args:
        usage: ``[..., N]``; it has no gradient here.
        heads: R, at most N.

    Returns:
        ``[..., heads, N]`` of 0 and 1.
    """
    slots = usage.detach().argsort(dim=-1, stable=True)[..., :heads]
    return (slots.unsqueeze(-1) == torch.arange(usage.shape[-1], device=usage.device)).to(usage.dtype)


def write_weights(gate: Tensor, last_read: Tensor, free: Tensor) -> Tensor:
    """Return how much each head writes to each slot: where it read last, or to the slot used least.

    Args:
        gate: ``[..., R, 1]`` in (0, 1): 1 updates what was read last, 0 takes a free slot.
        last_read: read weights of the step before, ``[..., R, N]``.
        free: the slots used least, ``[..., R, N]``.
    """
    return gate * last_read + (1 - gate) * free


def write(memory: Tensor, weights: Tensor, content: Tensor, erased: Tensor) -> Tensor:
    """Return the memory after a slot was erased and all heads have written.

    Args:
        memory: ``[..., N, M]``.
        weights: of the heads, ``[..., R, N]``.
        content: what they write, ``[..., R, M]``.
        erased: the slot that is set to zero before, ``[..., N]`` of 0 and 1.
    """
    return memory * (1 - erased).unsqueeze(-1) + weights.transpose(-1, -2) @ content
