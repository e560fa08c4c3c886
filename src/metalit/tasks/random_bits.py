"""Random bits as a function of (a task's key, which draw, which element)."""

from typing import Any

import torch
from torch import Tensor

MASK32 = 0xFFFFFFFF
GOLDEN_RATIO32 = 0x9E3779B9


# opaque to torch.compile: inlined, a hash that uses every number twice at each stage takes minutes to compile
@torch.library.custom_op("metalit::random_bits", mutates_args=())
def random_bits(key: Tensor, draw: int, count: int) -> Tensor:
    """Return 32 random bits for each of ``count`` elements, as int64 ``[*key.shape, count]``."""
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
    """Mix 32-bit integers held in int64 (Mueller's xor-multiply hash); no product exceeds 63 bits."""
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & MASK32
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & MASK32
    return x ^ (x >> 16)
