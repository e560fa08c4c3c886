"""Layers of convolutional networks, whose blocks metalit's kernels compute on a CPU."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from metalit.kernels import Form, conv_block, missing
from metalit.networks.normalisation import BatchNormOfMethod2d
from metalit.tasks.hooks import all_are_changed, is_changed
from metalit.tasks.levels import outside_vmap
from metalit.tasks.precision import under_autocast
from metalit.tasks.task_context import TaskContext, task_of_kernels

# With more weights torch's own convolutions are as fast or faster: 320 to 320 channels at 3x3, and 64 to 160 where all
# threads work on a single task.
MOST_WEIGHTS, MOST_WEIGHTS_ALONE = 1_000_000, 100_000
NOTHING = nn.Identity()


class ConvLayers(nn.Sequential):
    """An ``nn.Sequential`` of any layers, of which blocks are computed at once.

    A block is a convolution and a batch norm, with the (leaky) ReLU and the 2x2 max-pooling after it, if there are any.
    Within a task on a CPU, ``metalit.kernels`` compute it in fewer passes over memory, with the same numbers to
    rounding, unless ``unfit`` tells why not.

    Shape:
        That of the layers, one after the other.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last layer returns."""
        task = None if torch.compiler.is_compiling() else task_of_kernels()
        if task is None:
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        for block in self.blocks():
            x = computed(block, x, task)
        return x

    def blocks(self) -> Iterator["Block | nn.Module"]:
        """Return the layers in their order, those of a block together."""
        layers = list(self)
        while layers:
            first = layers.pop(0)
            norm = layers[0] if layers else None
            if not isinstance(first, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                yield first
                continue
            layers.pop(0)
            activation = layers.pop(0) if layers and slope(layers[0]) is not None else NOTHING
            pool = layers.pop(0) if layers and halves(layers[0]) else NOTHING
            yield Block(first, norm, activation, pool)


class Block(NamedTuple):
    """The layers of a block; ``nn.Identity`` in the place of one that it has not."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    activation: nn.Module
    pool: nn.Module


def for_kernels(module: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of a module for which there are kernels, by their place and size."""
    return [
        block.conv
        for layers in module.modules()
        if isinstance(layers, ConvLayers)
        for block in layers.blocks()
        if isinstance(block, Block) and block.conv.weight.numel() <= MOST_WEIGHTS
    ]


def computed(block: Block | nn.Module, x: Tensor, task: TaskContext) -> Tensor:
    """Return the maps after a block or a layer."""
    if isinstance(block, nn.Module):
        return block(x)  # type: ignore[no-any-return]
    reason = unfit(block, x) or missing()
    announce(reason)
    if reason is None:
        return by_kernels(block, x, task)
    for layer in block:
        x = layer(x)
    return x


def unfit(block: Block, x: Tensor) -> str | None:
    """Return why the kernels cannot compute a block on these images, or None if they can."""
    conv, norm = block.conv, block.norm
    if all_are_changed() or any(map(is_changed, block)):
        return "a layer has a hook or a replaced forward"
    if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return f"the convolution is {conv}"
    if conv.weight.numel() > (min(MOST_WEIGHTS, MOST_WEIGHTS_ALONE) if outside_vmap() else MOST_WEIGHTS):
        return f"a convolution has {conv.weight.numel()} weights, with which torch is faster"
    # other classes compute something else, and a norm without affine parameters has no weight
    if type(norm) not in (nn.BatchNorm2d, BatchNormOfMethod2d) or norm.weight is None or norm.bias is None:
        return f"the norm is {norm}"
    if norm.momentum is None or norm.num_features != conv.out_channels:
        return f"the norm is {norm}"
    if not norm.training and norm.running_mean is not None:
        return "the norm normalises by running statistics"
    parameters = (conv.weight, conv.bias, norm.weight, norm.bias)
    if any(each is not None and each.dtype != x.dtype for each in parameters):
        return f"the images are {x.dtype}, and not all parameters"
    return unfit_images(x, conv)


def unfit_images(x: Tensor, conv: nn.Conv2d) -> str | None:
    """Return why the kernels cannot take these images, or None if they can."""
    if x.device.type != "cpu" or under_autocast(x.device):
        return "they are not in full precision on the CPU"
    if x.dtype not in (torch.float32, torch.float64):
        return f"the images are {x.dtype}"
    if x.dim() != 4 or x.size(1) != conv.in_channels or type(x) not in (Tensor, nn.Parameter):
        return "the images are not an ordinary tensor [n, inputs, height, width]"
    assert not isinstance(conv.padding, str)
    sides = Form(conv.stride, conv.padding, conv.dilation).convolved(x.shape[2:], conv.weight.shape[2:])
    if x.size(0) * math.prod(sides) < 2 or min(sides) < 2:
        return "the maps are of a single pixel"
    return None


def slope(activation: nn.Module) -> float | None:
    """Return the slope of an activation below zero, None if it is neither a ReLU nor a leaky one."""
    if type(activation) is nn.ReLU:
        return 0.0
    if type(activation) is nn.LeakyReLU and 0 <= activation.negative_slope <= 1:
        return activation.negative_slope
    return None


def halves(pool: nn.Module) -> bool:
    """Return whether a layer is 2x2 max-pooling that drops an odd last row and column."""
    if type(pool) is not nn.MaxPool2d:
        return False
    sides = [tuple(each) if isinstance(each, tuple) else (each, each) for each in (pool.kernel_size, pool.stride)]
    plain = pool.padding == 0 and pool.dilation == 1
    return sides == [(2, 2), (2, 2)] and plain and not pool.ceil_mode and not pool.return_indices


def by_kernels(block: Block, x: Tensor, task: TaskContext) -> Tensor:
    """Return a block's maps ``[n, outputs, height, width]``, and record the running statistics of its norm."""
    conv: Any = block.conv
    norm: Any = block.norm
    below = slope(block.activation)
    form = Form(
        conv.stride,
        conv.padding,
        conv.dilation,
        norm.eps,
        slope=1.0 if below is None else below,
        pool=1 if block.pool is NOTHING else 2,
    )
    # a convolution's bias shifts the mean that the norm subtracts: it moves the running mean only, its gradient is 0
    shift = norm.bias if conv.bias is None else norm.bias.add(conv.bias, alpha=0)
    # in the kernels' order of memory here, and not again in each derivative
    weight = conv.weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    maps, mean, variance = conv_block(x[None], weight[None], norm.weight[None], shift[None], form)
    if norm.running_mean is not None and norm.track_running_stats:
        count = x.size(0) * math.prod(form.convolved(x.shape[2:], weight.shape[2:]))
        bias = 0 if conv.bias is None else conv.bias.detach()
        task.record(norm.running_mean, mean[0] + bias, norm.momentum)
        task.record(norm.running_var, variance[0] * (count / (count - 1)), norm.momentum)
    return maps.squeeze(0)  # whose derivative is a view; that of an index is a copy


@cache
def announce(reason: str | None) -> None:
    """Log once by what blocks of convolutions are computed, and once each reason why by torch."""
    from lightning.pytorch.utilities import rank_zero_info  # imported here, since the import takes seconds

    if reason is None:
        rank_zero_info("blocks of convolutions are computed by metalit's kernels (model.engine.kernels: auto)")
    else:
        rank_zero_info(f"blocks of convolutions are computed by torch's functions: {reason}")
