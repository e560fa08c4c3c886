"""A block of convolution, batch norm, ReLU and pooling, which kernels of metalit compute on a CPU."""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from metalit.kernels import Form, conv_block, missing
from metalit.networks.normalisation import BatchNormOfMethod2d
from metalit.tasks.hooks import all_are_changed, is_changed
from metalit.tasks.precision import under_autocast
from metalit.tasks.task_context import TaskContext, task_of_kernels


class ConvLayers(nn.Sequential):
    """Convolution, normalisation, activation and pooling, in this order: an ``nn.Sequential`` of four layers.

    Within a task on a CPU, ``metalit.kernels`` compute it in fewer passes over memory, with the same numbers to
    rounding, if the layers are those listed in ``unfit``.

    Shape:
        ``[n, inputs, height, width]`` to ``[n, outputs, height', width']``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps after pooling."""
        if torch.compiler.is_compiling():
            return self.by_torch(x)
        task = task_of_kernels()
        if task is None:
            return self.by_torch(x)
        reason = unfit(self, x) or missing()
        announce(reason)
        return self.by_torch(x) if reason else by_kernels(self, x, task)

    def by_torch(self, x: Tensor) -> Tensor:
        """Return the maps after pooling, layer by layer."""
        return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]


def unfit(block: nn.Sequential, x: Tensor) -> str | None:
    """Return why the kernels cannot compute a block of these layers on these images, or None if they can."""
    conv, norm, activation, pool = block
    if all_are_changed() or any(map(is_changed, block)):
        return "a layer has a hook or a replaced forward"
    if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return f"the convolution is {conv}"
    # other classes compute something else, and a norm without affine parameters has no weight
    if not isinstance(norm, nn.BatchNorm2d) or type(norm) not in (nn.BatchNorm2d, BatchNormOfMethod2d):
        return f"the norm is {norm}"
    if not norm.affine or norm.momentum is None:
        return f"the norm is {norm}"
    if not norm.training and norm.running_mean is not None:
        return "the norm normalises by running statistics"
    if slope(activation) is None:
        return f"the activation is {activation}"
    if type(pool) is not nn.Identity and not halves(pool):
        return f"the pooling is {pool}"
    return unfit_images(x, conv)


def unfit_images(x: Tensor, conv: nn.Conv2d) -> str | None:
    """Return why the kernels cannot take these images, or None if they can."""
    if x.device.type != "cpu" or under_autocast(x.device):
        return "they are not in full precision on the CPU"
    if x.dtype not in (torch.float32, torch.float64) or x.dtype != conv.weight.dtype:
        return f"the images are {x.dtype}"
    if x.dim() != 4 or type(x) not in (Tensor, nn.Parameter):
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


def by_kernels(block: Any, x: Tensor, task: TaskContext) -> Tensor:
    """Return a block's maps ``[n, outputs, height, width]``, and record the running statistics of its norm."""
    conv, norm, activation, pool = block
    sides = 1 if type(pool) is nn.Identity else 2
    form = Form(conv.stride, conv.padding, conv.dilation, norm.eps, slope(activation) or 0.0, sides)
    # a convolution's bias shifts the mean that the norm subtracts: it moves the running mean only, its gradient is 0
    shift = norm.bias if conv.bias is None else norm.bias.add(conv.bias, alpha=0)
    # in the kernels' order of memory here, and not again in each derivative
    weight = conv.weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    maps, mean, variance = conv_block(x[None], weight[None], norm.weight[None], shift[None], form)
    if norm.running_mean is not None:
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
