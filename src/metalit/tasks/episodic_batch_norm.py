"""Batch norm with per-task running statistics: accumulated on the support set, applied to the queries.

The two contexts wrap a network's forward pass. They identify a batch norm by its position in the sequence of calls, so
the network must call its layers in the same order each time. The statistics are plain values, not buffers.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from metalit.tasks.parameters import Params
from metalit.tasks.precision import at_least_float32


class AccumulateStatistics(TorchFunctionMode):
    """A context in which every batch norm uses batch statistics and updates the running statistics.

    Args:
        running: the running statistics so far; empty at the start of a task, which stands for mean 0 and variance 1.
        momentum: weight of the current batch in the running statistics, in (0, 1].

    Attributes:
        advanced: the running statistics after the forward pass.
    """

    def __init__(self, running: Params, momentum: float) -> None:
        super().__init__()
        self.running, self.momentum = running, momentum
        self.advanced: Params = {}  # a new dict, so that the caller's statistics are never changed in place

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function``, with ``batch_norm`` in place of torch's."""
        return replaced(function, self.batch_norm)(*args, **(kwargs or {}))

    def batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Normalise by the batch, and record the updated running mean and variance of this call."""
        call = len(self.advanced) // 2  # each earlier call left a mean and a variance
        before = statistics(self.running, call, input)
        dims = [0, *range(2, input.dim())]
        # the unbiased variance, which torch's running variance is too; running statistics are constants of the gradient
        variance, mean = torch.var_mean(at_least_float32(input.detach()), dims)
        for name, old, new in zip(names(call), before, (mean, variance), strict=True):
            self.advanced[name] = (1 - self.momentum) * old + self.momentum * new
        # a call of F.batch_norm, so that an enclosing TaskContext still applies the affine part outside the kernel
        return F.batch_norm(input, None, None, weight, bias, training=True, eps=eps)


class FixedStatistics(TorchFunctionMode):
    """A context in which every batch norm uses the accumulated statistics, so that queries do not see each other.

    Args:
        running: the ``advanced`` statistics of ``AccumulateStatistics``; empty stands for mean 0 and variance 1.
    """

    def __init__(self, running: Params) -> None:
        super().__init__()
        self.running, self.calls = running, 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function``, with ``batch_norm`` in place of torch's."""
        return replaced(function, self.batch_norm)(*args, **(kwargs or {}))

    def batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Normalise by the accumulated statistics of this call."""
        mean, variance = statistics(self.running, self.calls, input)
        self.calls += 1
        return F.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)


def replaced(function: Callable[..., Any], batch_norm: Callable[..., Tensor]) -> Callable[..., Any]:
    """Return ``batch_norm`` in place of ``F.batch_norm``, and any other function unchanged."""
    return batch_norm if function is F.batch_norm else function


def names(call: int) -> tuple[str, str]:
    """Return the names of the mean and variance of the ``call``-th batch norm in a forward pass."""
    return f"batch_norm/{call}/mean", f"batch_norm/{call}/variance"


def statistics(running: Params, call: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the ``call``-th batch norm, ``[channels]`` each; 0 and 1 before the first batch."""
    mean, variance = names(call)
    if mean in running:
        return running[mean], running[variance]
    zeros = torch.zeros(like.shape[1], dtype=at_least_float32(like.new_empty(0)).dtype, device=like.device)
    return zeros, torch.ones_like(zeros)
