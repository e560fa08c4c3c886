"""What one task sees of PyTorch: the same mathematics, in a form that is right under ``vmap`` and pure.

Inside a ``TaskContext`` any network, a user's own included, behaves as follows.

* **Fused norms** are called without their affine part, which is applied outside. In torch 2.13 reverse mode over
  ``vmap(func.grad(...))`` is silently wrong when the inner gradient includes the affine weight of a fused batch,
  instance or layer norm (the vmapped backward treats the saved statistics as constants); with the affine outside it
  is right. See docs/guide/gradients.md.
* **Running statistics** are not written in place: a training-mode batch norm normalises by the statistics of its
  own task and returns the updated buffers through ``updates``.
* **Dropout** takes its mask from a hash of (the task's key, how many draws came before, element), so the mask does not
  depend on how tasks are mapped: vmapped, looped, chunked or compiled. ``uniform_like`` and ``normal_like`` do the
  same; ``torch.rand_like`` and its kin do not, since torch.compile lets no mode see them.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._pytree import tree_leaves, tree_map

from metalit.functional.parameters import detached
from metalit.functional.precision import at_least_float32

MASK32 = 0xFFFFFFFF
GOLDEN_RATIO32 = 0x9E3779B9


class TaskContext(TorchFunctionMode):
    """Intercepts PyTorch functions while one task runs.

    Args:
        key: 0-d int64 tensor, >= 0, the task's source of randomness.
        buffers: the network's buffers by name; those that a batch norm would update are found among them.
        rows_by_vmap: whether ``map_rows`` vectorises; only where a gradient over ``vmap`` is right for the network.

    Attributes:
        updates: after the task, the new value of every running mean and variance, by buffer name.
    """

    def __init__(self, key: Tensor, buffers: Mapping[str, Tensor], *, rows_by_vmap: bool = False) -> None:
        super().__init__()
        self.key, self.buffers, self.rows_by_vmap = key, buffers, rows_by_vmap
        self.updates: dict[str, Tensor] = {}
        self.draws = 0
        self.replacements: dict[Callable[..., Any], Callable[..., Any]] = {
            F.batch_norm: self.batch_norm,
            F.instance_norm: self.instance_norm,
            F.layer_norm: layer_norm,
            F.dropout: self.dropout,
            F.dropout1d: self.channel_dropout,
            F.dropout2d: self.channel_dropout,
            F.dropout3d: self.channel_dropout,
            F.one_hot: one_hot,
            Tensor.add_: self.add_,
        }

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function`` or what replaces it; calls made by a replacement are not intercepted again."""
        return self.replacements.get(function, function)(*args, **(kwargs or {}))

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
        """Replace ``F.batch_norm``: running statistics returned instead of written, affine outside."""
        if not training or running_mean is None or running_var is None:
            out = F.batch_norm(input, running_mean, running_var, training=training, eps=eps)
        else:
            # with momentum 1 the kernel leaves the statistics of this task in the two new tensors
            mean, variance = (
                input.new_zeros(running.shape, dtype=running.dtype) for running in (running_mean, running_var)
            )
            out = F.batch_norm(input, mean, variance, training=True, momentum=1.0, eps=eps)
            self.record(running_mean, mean, momentum)
            self.record(running_var, variance, momentum)
        return channel_affine(out, weight, bias)

    def instance_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None = None,
        running_var: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        use_input_stats: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Replace ``F.instance_norm`` in the same way."""
        if not use_input_stats:
            out = F.instance_norm(input, running_mean, running_var, use_input_stats=False, eps=eps)
        else:
            out = F.instance_norm(input, eps=eps)
            if running_mean is not None and running_var is not None:
                variance, mean = torch.var_mean(at_least_float32(input.detach()), list(range(2, input.dim())))
                self.record(running_mean, mean.mean(0), momentum)
                self.record(running_var, variance.mean(0), momentum)
        return channel_affine(out, weight, bias)

    def add_(self, target: Tensor, other: Any, **options: Any) -> Tensor:
        """Leave the count of batches that a tracking norm keeps to the learner; add anything else."""
        if any(known is target for known in self.buffers.values()):
            return target
        return target.add_(other, **options)

    def record(self, buffer: Tensor, value: Tensor, momentum: float) -> None:
        """Note the exponential moving average that a fused batch norm would have written into ``buffer``."""
        names = [name for name, known in self.buffers.items() if known is buffer]
        assert names, (
            "a running statistic is none of the learner's buffers: was it an argument of a transform?"
        )
        self.updates[names[0]] = (1 - momentum) * buffer + momentum * value.to(buffer.dtype)

    def statistics(self) -> dict[str, Tensor]:
        """Return ``updates`` as plain values; those noted within an inner gradient still belong to its graph."""
        return detached(self.updates)

    def dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """Replace ``F.dropout`` by one whose mask is a function of the task's key."""
        return input * self.keep(input, p) if training and p > 0 else input

    def channel_dropout(
        self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """Replace ``F.dropout1d``, ``2d`` and ``3d``, which drop whole channels ``[examples, channels, ...]``."""
        if not training or p == 0:
            return input
        keep = self.keep(input.flatten(2)[..., 0], p)
        return input * keep.reshape(*keep.shape, *[1] * (input.dim() - 2))

    def keep(self, like: Tensor, p: float) -> Tensor:
        """Return a mask of 0 and 1/(1-p) in the shape of ``like``, new at each call."""
        keep = self.bits(like) >= p * 2**32
        return keep.to(like.dtype) / (1 - p) if p < 1 else torch.zeros_like(like)

    def bits(self, like: Tensor) -> Tensor:
        """Return 32 random bits for each element, as int64, new at each call."""
        self.draws += 1
        bits: Tensor = random_bits(self.key, self.draws, like.numel())
        return bits.reshape(like.shape)


def current_task() -> TaskContext | None:
    """Return the innermost context that is entered at present."""
    modes = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, TaskContext)]  # type: ignore[no-untyped-call]
    return modes[-1] if modes else None


def map_rows(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply a function to each row of some pytrees within a task, and stack the results.

    By ``vmap`` where a gradient over it is known to be right for the task's network, else by a loop.

    Args:
        function: from one row of each pytree to a pytree of tensors.
        trees: tensors with the rows first, all equally many.
    """
    task, count = current_task(), len(tree_leaves(trees)[0])
    if task is not None and task.rows_by_vmap and count > 1:
        return vmap(function, randomness="different")(*trees)
    rows = [function(*tree_map(lambda leaf, i=i: leaf[i], trees)) for i in range(count)]
    return tree_map(lambda *leaves: torch.stack(leaves), *rows)


def uniform_like(x: Tensor) -> Tensor:
    """Return float64 numbers uniform in (0, 1) in the shape of ``x``: within a task drawn by its key."""
    task = current_task()
    if task is None:
        return torch.rand_like(x, dtype=torch.float64)
    return (task.bits(x) + 0.5) / 2**32


def normal_like(x: Tensor) -> Tensor:
    """Return standard normal numbers in the shape and dtype of ``x`` (Box and Muller 1958)."""
    radius, angle = uniform_like(x), uniform_like(x)
    return ((-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()).to(x.dtype)


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


def one_hot(labels: Tensor, num_classes: int = -1) -> Tensor:
    """Replace ``F.one_hot``, which reads its labels' values: no ``vmap`` allows that where a gradient is taken."""
    if num_classes < 1:
        return F.one_hot(labels, num_classes)
    return (labels.unsqueeze(-1) == torch.arange(num_classes, device=labels.device)).long()


def channel_affine(out: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift ``[examples, channels, ...]`` per channel."""
    shape = (1, -1) + (1,) * (out.dim() - 2)
    if weight is not None and bias is not None:
        return torch.addcmul(bias.reshape(shape), out, weight.reshape(shape))  # one pass over memory, not two
    if weight is not None:
        out = out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Replace ``F.layer_norm``: affine outside."""
    out = F.layer_norm(input, normalized_shape, None, None, eps)
    if weight is not None:
        out = out * weight
    return out if bias is None else out + bias
