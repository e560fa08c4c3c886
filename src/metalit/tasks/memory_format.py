"""The faster memory format of each convolution on a CPU (docs/guide/speed.md)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.tasks.levels import outside_vmap

# A convolution brings its weights into the machine's own format in each call. From channels last this takes longer:
# with more weights than these, 320 to 320 channels at 3x3, longer than all else gains.
MOST_WEIGHTS = 1_000_000


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Compute ``F.conv2d`` with the images in the memory format that is faster for them: few weights, channels last."""
    if is_free(input, weight, groups):
        few = weight.numel() <= MOST_WEIGHTS
        # torch convolves in channels last if either has this format, and converts the other
        input = input.contiguous(memory_format=torch.channels_last if few else torch.contiguous_format)
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def is_free(input: Tensor, weight: Tensor, groups: int) -> bool:
    """Whether the format may be chosen: on a CPU, where neither ``vmap`` nor the weights' own format decides it."""
    on_cpu = input.device.type == "cpu" and input.dim() == 4 and groups == 1
    return on_cpu and outside_vmap() and weight.is_contiguous()
