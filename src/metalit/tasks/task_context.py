"""What one task sees of PyTorch: the same mathematics, in a form that is right under ``vmap`` and pure.

Inside a ``TaskContext`` any network, a user's own included, behaves as follows.

* **Fused norms** are called without their affine part, which is applied outside. In torch 2.13 reverse mode over
  ``vmap(func.grad(...))`` is silently wrong when the inner gradient includes the affine weight of a fused batch,
  instance or layer norm (the vmapped backward treats the saved statistics as constants); with the affine outside it
  is right. See docs/guide/gradients.md.
* **Running statistics** are not written in place: a training-mode batch norm normalises by the statistics of its
  own task and returns the updated buffers through ``updates``. Any other write into a buffer is refused.
* **What is random** (dropout by every name, attention's too, ``torch.rand`` and its kin) is drawn from a hash of (the
  task's key, how many draws came before, element), so it does not depend on how tasks are mapped: vmapped, looped,
  chunked, computed again or compiled. What cannot be drawn so is refused.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.modules.module import register_module_buffer_registration_hook
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._pytree import tree_leaves, tree_map

from metalit.errors import UserError
from metalit.tasks.draws import DRAWS, normal, uniform
from metalit.tasks.parameters import detached
from metalit.tasks.precision import at_least_float32
from metalit.tasks.random_bits import random_bits
from metalit.tasks.same_numbers import (
    channel_affine,
    embedding,
    embedding_bag,
    hardsigmoid,
    layer_norm,
    one_hot,
)

COUNT = "num_batches_tracked"  # of a norm: the learner advances it, once a step


class TaskContext(TorchFunctionMode):
    """Intercepts PyTorch functions while one task runs.

    Args:
        key: 0-d int64 tensor, >= 0, the task's source of randomness.
        buffers: the network's buffers by name; those that a batch norm would update are found among them.
        rows_by_vmap: whether ``map_rows`` vectorises; only where a gradient over ``vmap`` is right for the network.

    Attributes:
        updates: after the task, the new value of every running mean and variance, by buffer name.

    Raises:
        ValueError: the network writes into a buffer of its own, or draws random numbers that no key can give.
    """

    def __init__(self, key: Tensor, buffers: Mapping[str, Tensor], *, rows_by_vmap: bool = False) -> None:
        super().__init__()
        self.key, self.buffers, self.rows_by_vmap = key, buffers, rows_by_vmap
        self.updates: dict[str, Tensor] = {}
        self.draws = 0
        # the compiler traces no property of tensors, and what it traces writes nowhere while it traces
        self.replacements = REPLACEMENTS if torch.compiler.is_compiling() else EAGER_REPLACEMENTS

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function`` or what replaces it; calls made by a replacement are not intercepted again."""
        replacement = self.replacements.get(function)
        try:
            if replacement is None:
                return function(*args, **(kwargs or {}))
            return replacement(self, *args, **(kwargs or {}))
        except RuntimeError as error:
            name = self.name_of(args[0]) if args else None
            if name is not None and is_in_place(function):
                raise UserError(WRITTEN.format(name)) from error
            raise

    def __enter__(self) -> "TaskContext":
        """Begin to intercept."""
        if not torch.compiler.is_compiling():
            self.guard = without_writes(self.buffers)
            self.guard.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        """End it, and refuse what was written into a buffer."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if not torch.compiler.is_compiling():
            self.guard.__exit__(*error)

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

    def name_of(self, tensor: Any) -> str | None:
        """Return the name of a buffer of the learner, None of anything else."""
        return next((name for name, known in self.buffers.items() if known is tensor), None)

    def add_(self, target: Tensor, other: Any, **options: Any) -> Tensor:
        """Leave the count of batches that a tracking norm keeps to the learner; add anything else."""
        if (self.name_of(target) or "").endswith(COUNT):
            return target
        return target.add_(other, **options)

    def number(self, target: Tensor) -> float:
        """Return a tensor as a number; a norm's count of batches, for its cumulative average, with the present one."""
        return float(target) + (self.name_of(target) or "").endswith(COUNT)

    def detach(self, target: Tensor) -> Tensor:
        """Return a constant; a buffer is one, and stays the object by which a norm's statistics are known."""
        return target.detach() if self.name_of(target) is None else target

    def data(self, target: Tensor) -> Tensor:
        """Return a tensor's data; a buffer itself, so that a write is noticed."""
        return target.data if self.name_of(target) is None else target

    def record(self, buffer: Tensor, value: Tensor, momentum: float) -> None:
        """Note the exponential moving average that a fused batch norm would have written into ``buffer``."""
        names = [name for name, known in self.buffers.items() if known is buffer]
        assert names, "a running statistic is none of the learner's buffers: was it an argument of a transform?"
        self.updates[names[0]] = (1 - momentum) * buffer + momentum * value.to(buffer.dtype)

    def statistics(self) -> dict[str, Tensor]:
        """Return ``updates`` as plain values; those noted within an inner gradient still belong to its graph."""
        return detached(self.updates)

    def bits(self, like: Tensor) -> Tensor:
        """Return 32 random bits for each element, as int64, new at each call."""
        self.draws += 1
        bits: Tensor = random_bits(self.key, self.draws, like.numel())
        return bits.reshape(like.shape)


class Within(TorchFunctionMode):
    """Lets a task intercept in what one of its replacements calls, too."""

    def __init__(self, task: TaskContext) -> None:
        super().__init__()
        self.task = task

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function`` or what replaces it."""
        return self.task.__torch_function__(function, types, args, kwargs)


def multi_head_attention(task: TaskContext, *args: Any, **kwargs: Any) -> Any:
    """Replace ``F.multi_head_attention_forward`` by its own code, in which the task sees the dropout."""
    dropout = kwargs["dropout_p"] if "dropout_p" in kwargs else args[10]
    training = args[13] if len(args) > 13 else kwargs.get("training", True)
    if not (dropout and training):
        return F.multi_head_attention_forward(*args, **kwargs)  # nothing to see, and the compiler traces this form
    with Within(task):
        return MULTI_HEAD_ATTENTION(*args, **kwargs)


# torch hands the function as a whole to a mode, and then calls it without the mode; this one it does not hand over
MULTI_HEAD_ATTENTION = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**F.multi_head_attention_forward.__globals__, "has_torch_function": lambda *_: False},
    F.multi_head_attention_forward.__name__,
    F.multi_head_attention_forward.__defaults__,
)


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
    return torch.rand_like(x, dtype=torch.float64) if task is None else uniform(task, x)


def normal_like(x: Tensor) -> Tensor:
    """Return standard normal numbers in the shape and dtype of ``x``: within a task drawn by its key."""
    task = current_task()
    return torch.randn_like(x) if task is None else normal(task, x).to(x.dtype)


def is_in_place(function: Any) -> bool:
    """Return whether a function writes into its first argument, as its name says."""
    name = getattr(function, "__name__", "")
    return name.startswith(("__i", "__setitem__")) if name.startswith("__") else name.endswith("_")


@contextmanager
def without_writes(buffers: Mapping[str, Tensor]) -> Iterator[None]:
    """Refuse what a network writes into its buffers, in place or by giving them another tensor.

    Args:
        buffers: by name.

    Raises:
        ValueError: it names the buffer.
    """

    def refuse_assignment(module: nn.Module, name: str, value: Any) -> None:
        if name in module._buffers and module._buffers[name] is not value:
            raise UserError(WRITTEN.format(f"{name} of {type(module).__name__}"))

    versions = {name: buffer._version for name, buffer in buffers.items() if not buffer.is_inference()}
    hook = register_module_buffer_registration_hook(refuse_assignment)
    try:
        yield
    finally:
        hook.remove()
    written = [name for name, version in versions.items() if buffers[name]._version != version]
    if written:
        raise UserError(WRITTEN.format(", ".join(written)))


WRITTEN = (
    "the network writes into its buffer {} while it runs a task, but tasks are computed side by side and more than "
    "once: of buffers only the running statistics of norms may change. Let a callback write it, once a step"
)


def torch_batch_norm(
    task: TaskContext,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,  # noqa: ARG001
) -> Tensor:
    """Replace ``torch.batch_norm``, whose arguments have another order."""
    return task.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def torch_instance_norm(
    task: TaskContext,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,  # noqa: ARG001
) -> Tensor:
    """Replace ``torch.instance_norm``, whose arguments have another order."""
    return task.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def torch_layer_norm(
    task: TaskContext,  # noqa: ARG001
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = False,  # noqa: ARG001
) -> Tensor:
    """Replace ``torch.layer_norm``, and ``F.layer_norm``."""
    return layer_norm(input, normalized_shape, weight, bias, eps)


def without_task(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes a task before its own arguments, and has no use for it."""
    return lambda _, *args, **kwargs: function(*args, **kwargs)


# by function: what is called instead, with the context before the function's own arguments
REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    **DRAWS,
    F.batch_norm: TaskContext.batch_norm,
    torch.batch_norm: torch_batch_norm,
    F.instance_norm: TaskContext.instance_norm,
    torch.instance_norm: torch_instance_norm,
    F.layer_norm: torch_layer_norm,
    torch.layer_norm: torch_layer_norm,
    F.multi_head_attention_forward: multi_head_attention,
    F.one_hot: without_task(one_hot),
    F.embedding: without_task(embedding),
    F.embedding_bag: without_task(embedding_bag),
    F.hardsigmoid: without_task(hardsigmoid),
    Tensor.add_: TaskContext.add_,
    Tensor.__iadd__: TaskContext.add_,
    Tensor.detach: TaskContext.detach,
}
EAGER_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    **REPLACEMENTS,
    Tensor.__float__: TaskContext.number,
    Tensor.data.__get__: TaskContext.data,  # type: ignore[attr-defined]
    # evaluation's path of nn.TransformerEncoder, which no vmap takes, asks this first
    torch._nested_tensor_from_mask_left_aligned: lambda *_: False,
}
