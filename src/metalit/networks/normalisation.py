"""Batch normalisation as one explicit setting, since results of different modes cannot be compared."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import UserError, about, at_least, not_negative
from metalit.tasks.parameters import matching
from metalit.tasks.precision import at_least_float32
from metalit.tasks.same_numbers import channel_affine

BatchNormMode = Literal["batch", "running", "renorm", "none"]


class BatchNormOfMethod2d(nn.BatchNorm2d):
    """Batch norm whose mode is left to the method: ``batch`` unless the method calls ``use_running_statistics``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)


# called by metric- and memory-based methods, whose predictions must not depend on the other queries by default
def use_running_statistics(network: nn.Module) -> None:
    """Add running statistics to every batch norm of a network whose mode was left to the method."""
    for module in network.modules():
        # torch registers these buffers as None without tracking; assigning tensors makes them part of the state dict
        if isinstance(module, BatchNormOfMethod2d) and not module.track_running_stats:
            module.track_running_stats = True
            module.running_mean = torch.zeros_like(module.weight.detach())
            module.running_var = torch.ones_like(module.weight.detach())
            module.num_batches_tracked = torch.zeros((), dtype=torch.int64, device=module.weight.device)


def batch_norm_2d(channels: int, mode: BatchNormMode | None) -> nn.Module:
    """Return the normalisation layer that follows a convolution.

    Args:
        channels: number of channels.
        mode: ``batch`` normalises by the statistics of the current examples, in evaluation too: the prediction for a
            query image then depends on the other query images (*transductive*, as in MAML and its variants).
            ``running`` evaluates with running statistics accumulated in training (prototypical networks). ``renorm``
            corrects towards them in training too (``BatchRenorm2d``), for training tasks of few images. ``none``
            omits the layer. If None, the method chooses: ``running`` if it is metric- or memory-based, else ``batch``.
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

    In training, batch norm normalises a task by its own statistics. Those of a few images of a few classes are far from
    the statistics over all tasks, so the network learns to rely on them and lacks them in evaluation. Batch
    renormalisation corrects the normalised feature maps towards those that the running statistics would give,

        x_hat = (x - mean_task) / std_task * r + d,    r = std_task / std,    d = (mean_task - mean) / std,

    with r in [1 / r_max, r_max] and d in [-d_max, d_max]; r and d are constants to the gradient. The bounds open
    linearly from 1 and 0, which is plain batch norm, over the first batches.

    Args:
        channels: number of channels.
        r_max: bound of r, >= 1.
        d_max: bound of d, >= 0.
        opening: number of batches until the bounds are fully open, >= 1.

    Shape:
        ``[n, channels, height, width]`` to the same.

    Raises:
        SettingError: a number is out of range.
    """

    def __init__(self, channels: int, r_max: float = 3.0, d_max: float = 5.0, opening: int = 500) -> None:
        super().__init__(channels)
        at_least(1, r_max=r_max, opening=opening)
        not_negative("d_max", d_max)
        self.r_max, self.d_max, self.opening = r_max, d_max, opening

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised feature maps."""
        # evaluation is that of plain batch norm: r and d only correct the statistics of a task
        if not self.training:
            return super().forward(x)
        mean, variance = self.running_mean, self.running_var
        assert mean is not None
        assert variance is not None
        assert self.num_batches_tracked is not None
        # detached, and with correction 0, which is the variance that batch norm itself normalises by
        task_variance, task_mean = torch.var_mean(at_least_float32(x.detach()), (0, 2, 3), correction=0)
        opened = (self.num_batches_tracked / self.opening).clamp(max=1)
        r_max, d_max = 1 + (self.r_max - 1) * opened, self.d_max * opened
        r = ((task_variance + self.eps) / (variance + self.eps)).sqrt().clamp(1 / r_max, r_max)
        d = ((task_mean - mean) / (variance + self.eps).sqrt()).clamp(-d_max, d_max)
        # within a task this does nothing: the learner advances the count, once a step
        self.num_batches_tracked.add_(1)
        # momentum None is torch's cumulative average
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        maps = F.batch_norm(x, mean, variance, training=True, momentum=momentum, eps=self.eps)
        # The affine part stays outside the fused kernel, whose backward pass under vmap is wrong with it in torch 2.13
        # (docs/guide/gradients.md). r and d are folded into it: weight * (maps * r + d) + bias.
        weight, bias = self.weight, self.bias
        return channel_affine(maps, (weight * r).to(maps.dtype), (weight * d + bias).to(maps.dtype))


def batch_norm_mode(*networks: nn.Module) -> str:
    """Return the batch-norm mode of some networks as results state it; ``mixed`` if their layers differ."""
    modes = set()
    for module in (module for network in networks for module in network.modules()):
        if isinstance(module, BatchRenorm2d):
            modes.add("renorm")
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            modes.add("running" if module.track_running_stats else "batch")
    return "mixed" if len(modes) > 1 else next(iter(modes), "none")


def batch_norms(network: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """Return the batch norms of a network, of any class and mode, whose dotted names match the patterns.

    Args:
        network: any network.
        patterns: e.g. ``["*"]`` for all, or ``["blocks.0.*"]``; no patterns match nothing.

    Raises:
        UserError: a pattern matches no batch norm.
    """
    found = {
        name: module for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    if not patterns:
        return {}
    with about("frozen_batch_norm"):
        if not found:
            raise UserError(f"{type(network).__name__} has no batch norm that {list(patterns)} could match")
        return {name: found[name] for name in matching(list(found), patterns, "batch norm")}
