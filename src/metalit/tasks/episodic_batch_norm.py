"""Batch norm whose running statistics belong to one task: accumulated on its support set, used for its queries.

Two contexts for a network's forward pass, for networks whose layers are called in the same order each time. The
statistics are values, named by the order of the calls.
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
    """Every batch norm normalises by the batch at hand, and the running statistics advance.

    Args:
        running: the statistics so far; none, which stands for mean 0 and variance 1, at the start of a task.
        momentum: weight of the batch at hand against what was before, in (0, 1].

    Attributes:
        advanced: the statistics after the forward pass.
    """

    def __init__(self, running: Params, momentum: float) -> None:
        super().__init__()
        self.running, self.momentum = running, momentum
        self.advanced: Params = {}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function``, or ``batch_norm`` instead of torch's."""
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
        """Replace ``F.batch_norm``."""
        call = len(self.advanced) // 2
        before = statistics(self.running, call, input)
        dims = [0, *range(2, input.dim())]
        variance, mean = torch.var_mean(at_least_float32(input.detach()), dims)
        for name, old, new in zip(names(call), before, (mean, variance), strict=True):
            self.advanced[name] = (1 - self.momentum) * old + self.momentum * new
        return F.batch_norm(input, None, None, weight, bias, training=True, eps=eps)


class FixedStatistics(TorchFunctionMode):
    """Every batch norm normalises by statistics that were accumulated before, so examples do not see each other.

    Args:
        running: from ``AccumulateStatistics``; none stands for mean 0 and variance 1.
    """

    def __init__(self, running: Params) -> None:
        super().__init__()
        self.running, self.calls = running, 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function``, or ``batch_norm`` instead of torch's."""
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
        """Replace ``F.batch_norm``."""
        mean, variance = statistics(self.running, self.calls, input)
        self.calls += 1
        return F.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)


def replaced(function: Callable[..., Any], batch_norm: Callable[..., Tensor]) -> Callable[..., Any]:
    """Return ``batch_norm`` in the place of torch's, and any other function as it is."""
    return batch_norm if function is F.batch_norm else function


def names(call: int) -> tuple[str, str]:
    """Return the names of mean and variance of a forward pass's ``call``-th batch norm."""
    return f"batch_norm/{call}/mean", f"batch_norm/{call}/variance"


def statistics(running: Params, call: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the ``call``-th batch norm, ``[channels]``; before any batch 0 and 1."""
    mean, variance = names(call)
    if mean in running:
        return running[mean], running[variance]
    zeros = torch.zeros(like.shape[1], dtype=at_least_float32(like.new_empty(0)).dtype, device=like.device)
    return zeros, torch.ones_like(zeros)
