"""Batch normalisation as one explicit setting, because it decides what a result can be compared with."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import UserError, at_least, not_negative
from metalit.tasks.parameters import matching
from metalit.tasks.precision import at_least_float32
from metalit.tasks.same_numbers import channel_affine

BatchNormMode = Literal["batch", "running", "renorm", "none"]


class BatchNormOfMethod2d(nn.BatchNorm2d):
    """Batch norm whose mode is left to the method: ``batch``, until one calls ``use_running_statistics``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)


def use_running_statistics(network: nn.Module) -> None:
    """Give running statistics to every batch norm of a network whose mode was left to the method."""
    for module in network.modules():
        if isinstance(module, BatchNormOfMethod2d) and not module.track_running_stats:
            module.track_running_stats = True
            module.running_mean = torch.zeros_like(module.weight.detach())
            module.running_var = torch.ones_like(module.weight.detach())
            module.num_batches_tracked = torch.zeros((), dtype=torch.int64, device=module.weight.device)


def batch_norm_2d(channels: int, mode: BatchNormMode | None) -> nn.Module:
    """Return the normalisation layer of one convolution.

    Args:
        channels: how many.
        mode: ``batch`` normalises by the statistics of the examples at hand, in evaluation too: predictions for one
            query image then depend on the other query images (*transductive*; MAML and its kin). ``running`` uses
            statistics accumulated in training when evaluating (Prototypical Networks). ``renorm`` does so in training
            too (``BatchRenorm2d``), for training tasks of few images. ``none`` leaves it out. Not given, the method
            chooses: metric-based and memory-based ones ``running``, all others ``batch``.
    """
    if mode is None:
        return BatchNormOfMethod2d(channels)
    if mode == "none":
        return nn.Identity()
    if mode == "renorm":
        return BatchRenorm2d(channels)
    return nn.BatchNorm2d(channels, track_running_stats=mode == "running")


class BatchRenorm2d(nn.BatchNorm2d):
    """Batch renormalisation (Ioffe 2017, https://arxiv.org/abs/1702.03275, algorithm 1).

    In training a task is normalised by its own statistics, which of a few images of a few classes are far from those
    of all tasks: a network learns to make use of them, and misses them in evaluation. Here the normalised maps are
    corrected, by factors that gradients do not see, to what the running statistics would have made of them,

        x_hat = (x - mean_task) / std_task * r + d,    r = std_task / std,    d = (mean_task - mean) / std,

    with r in [1 / r_max, r_max] and d in [-d_max, d_max]. Both bounds open from 1 and 0, plain batch norm, in the first
    batches.

    Args:
        channels: how many.
        r_max: >= 1.
        d_max: >= 0.
        opening: after how many batches the bounds are open; >= 1.

    Shape:
        ``[n, channels, height, width]`` to the same.

    Raises:
        ValueError: a number outside its range.
    """

    def __init__(self, channels: int, r_max: float = 3.0, d_max: float = 5.0, opening: int = 500) -> None:
        super().__init__(channels)
        at_least(1, r_max=r_max, opening=opening)
        not_negative("d_max", d_max)
        self.r_max, self.d_max, self.opening = r_max, d_max, opening

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        if not self.training:
            return super().forward(x)
        mean, variance = self.running_mean, self.running_var
        assert mean is not None
        assert variance is not None
        assert self.num_batches_tracked is not None
        task_variance, task_mean = torch.var_mean(at_least_float32(x.detach()), (0, 2, 3), correction=0)
        opened = (self.num_batches_tracked / self.opening).clamp(max=1)
        r_max, d_max = 1 + (self.r_max - 1) * opened, self.d_max * opened
        r = ((task_variance + self.eps) / (variance + self.eps)).sqrt().clamp(1 / r_max, r_max)
        d = ((task_mean - mean) / (variance + self.eps).sqrt()).clamp(-d_max, d_max)
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        maps = F.batch_norm(x, mean, variance, training=True, momentum=momentum, eps=self.eps)
        weight, bias = self.weight, self.bias
        return channel_affine(maps, (weight * r).to(maps.dtype), (weight * d + bias).to(maps.dtype))


def batch_norm_mode(*networks: nn.Module) -> str:
    """Return the mode of any networks, as it is written into a result; ``mixed`` if their layers differ."""
    modes = set()
    for module in (module for network in networks for module in network.modules()):
        if isinstance(module, BatchRenorm2d):
            modes.add("renorm")
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            modes.add("running" if module.track_running_stats else "batch")
    return "mixed" if len(modes) > 1 else next(iter(modes), "none")


def batch_norms(network: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """Return the batch norms of a network, of whatever class and mode, whose dotted names match.

    Args:
        network: any.
        patterns: e.g. ``["*"]`` for all, or ``["blocks.0.*"]``; of none, none are returned.

    Raises:
        ValueError: a pattern matches no batch norm.
    """
    found = {
        name: module for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    if not patterns:
        return {}
    if not found:
        raise UserError(f"{type(network).__name__} has no batch norm that {list(patterns)} could match")
    return {name: found[name] for name in matching(list(found), patterns, "batch norm")}
