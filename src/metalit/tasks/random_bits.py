"""Counter-based random bits: a pure function of (the task's key, the index of the draw, the index of the element)."""

from typing import Any

import torch
from torch import Tensor

MASK32 = 0xFFFFFFFF
GOLDEN_RATIO32 = 0x9E3779B9  # odd, so that multiples stay distinct modulo 2^32: each draw has a stream of its own


# A custom op is opaque to torch.compile. Inlined, the hash takes minutes to compile, since each stage uses its input
# twice.
@torch.library.custom_op("metalit::random_bits", mutates_args=())
def random_bits(key: Tensor, draw: int, count: int) -> Tensor:
    """Return 32 random bits for each of ``count`` elements, as int64 ``[*key.shape, count]``."""
    # a learner's keys hold the task's index in the lower half and the learner's seed in the upper half
    mixed = hash32(hash32(key & MASK32) ^ (key >> 32))
    stream = hash32((mixed + draw * GOLDEN_RATIO32) & MASK32).unsqueeze(-1)
    elements = torch.arange(count, device=key.device)
    return hash32((hash32(elements ^ stream) + stream) & MASK32)


@random_bits.register_fake
def _(key: Tensor, draw: int, count: int) -> Tensor:  # noqa: ARG001
    return key.new_empty(*key.shape, count)


@random_bits.register_vmap
def _(info: Any, in_dims: Any, key: Tensor, draw: int, count: int) -> tuple[Tensor, int]:  # noqa: ARG001
    return random_bits(key.movedim(in_dims[0], 0), draw, count), 0


def hash32(x: Tensor) -> Tensor:
    """Hash 32-bit integers stored as int64 (Mueller's xor-multiply hash); no product exceeds 63 bits."""
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & MASK32
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & MASK32
    return x ^ (x >> 16)
