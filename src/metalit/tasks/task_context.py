"""The context in which a task runs: it makes PyTorch's functions pure and correct under ``vmap``.

Inside a ``TaskContext`` any network, including a user's own, behaves as follows.

* **Fused norms** are called without their affine part, which is applied outside the kernel. In torch 2.13 reverse mode
  over ``vmap(func.grad(...))`` is silently wrong when the inner gradient includes the affine weight of a fused batch,
  instance or layer norm: the vmapped backward treats the saved statistics as constants. With the affine part outside
  the gradient is correct (docs/guide/gradients.md). Outside ``vmap`` and inner gradients, batch norms stay whole: fast.
* **Running statistics** are not written in place. A batch norm in training mode normalises by the statistics of its own
  task and returns the updated buffers through ``updates``. Any other write into a buffer raises an error.
* **Random numbers** (every variant of dropout, including attention's, ``torch.rand`` and the like) are a hash of (the
  task's key, the number of earlier draws, the element). They do not depend on how tasks are computed: vmapped, looped,
  chunked, recomputed or compiled. Random functions without a keyed version raise an error.
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
from metalit.tasks.levels import differentiated_once_at_most
from metalit.tasks.memory_format import conv2d
from metalit.tasks.parameters import detached
from metalit.tasks.precision import at_least_float32, under_autocast
from metalit.tasks.random_bits import random_bits
from metalit.tasks.same_numbers import (
    channel_affine,
    embedding,
    embedding_bag,
    hardsigmoid,
    layer_norm,
    one_hot,
)

COUNT = "num_batches_tracked"  # the buffer in which a norm counts batches; the learner advances it once per step


class TaskContext(TorchFunctionMode):
    """A context that intercepts PyTorch functions while one task runs.

    Args:
        key: 0-d int64 tensor, >= 0, the seed of the task's random numbers.
        buffers: the network's buffers by name; running statistics are identified among them.
        rows_by_vmap: whether ``map_rows`` vectorises. Safe only if a gradient over ``vmap`` is correct for the network.
        kernels: whether layers may run by the kernels of ``metalit.kernels`` in place of torch's functions.

    Attributes:
        updates: after the task, the new value of every running mean and variance, by buffer name.
        replaces: whether functions are replaced now; not while a context inside this one does so.

    Raises:
        UserError: the network writes into one of its buffers, or calls a random function without a keyed version.
    """

    def __init__(
        self, key: Tensor, buffers: Mapping[str, Tensor], *, rows_by_vmap: bool = False, kernels: bool = False
    ) -> None:
        super().__init__()
        self.key, self.buffers, self.rows_by_vmap = key, buffers, rows_by_vmap
        self.kernels = kernels
        self.updates: dict[str, Tensor] = {}
        self.draws = 0
        self.replaces = True
        # The compiler cannot trace properties of tensors, such as data, and tracing itself writes into no buffer.
        self.replacements = REPLACEMENTS if torch.compiler.is_compiling() else EAGER_REPLACEMENTS

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function`` or its replacement; calls made by a replacement are not intercepted again."""
        replacement = self.replacements.get(function) if self.replaces else None
        try:
            if replacement is None:
                return function(*args, **(kwargs or {}))
            return replacement(self, *args, **(kwargs or {}))
        except RuntimeError as error:
            # vmap raises when a task writes its own value into a shared buffer: name the buffer in the message
            name = self.name_of(args[0]) if args else None
            if name is not None and is_in_place(function):
                raise UserError(WRITTEN.format(name)) from error
            raise

    def __enter__(self) -> "TaskContext":
        """Start intercepting, and watch the buffers for writes."""
        if not torch.compiler.is_compiling():
            self.guard = without_writes(self.buffers)
            self.guard.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        """Stop intercepting, and raise an error if a buffer was written."""
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
        """Replace ``F.batch_norm``: running statistics are recorded, not written; the affine part may be outside."""
        # the kernel takes an affine part of the input's own type only without changing that of the output
        fused = weight is not None and weight.dtype == input.dtype and differentiated_once_at_most()
        inside = (weight, bias) if fused else (None, None)
        if not training or running_mean is None or running_var is None:
            out = F.batch_norm(input, running_mean, running_var, *inside, training=training, eps=eps)
        else:
            # With momentum 1 the kernel stores the task's own statistics in two new tensors. input.new_zeros gives each
            # task tensors of its own under vmap, which the kernel needs to write into them.
            mean, variance = (
                input.new_zeros(running.shape, dtype=running.dtype) for running in (running_mean, running_var)
            )
            out = F.batch_norm(input, mean, variance, *inside, training=True, momentum=1.0, eps=eps)
            self.record(running_mean, mean, momentum)
            self.record(running_var, variance, momentum)
        return out if fused else channel_affine(out, weight, bias)

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
        """Replace ``F.instance_norm`` in the same way as ``batch_norm``."""
        if not use_input_stats:
            out = F.instance_norm(input, running_mean, running_var, use_input_stats=False, eps=eps)
        else:
            out = F.instance_norm(input, eps=eps)
            if running_mean is not None and running_var is not None:
                variance, mean = torch.var_mean(at_least_float32(input.detach()), list(range(2, input.dim())))
                # torch's running statistics of an instance norm are means over the examples
                self.record(running_mean, mean.mean(0), momentum)
                self.record(running_var, variance.mean(0), momentum)
        return channel_affine(out, weight, bias)

    def name_of(self, tensor: Any) -> str | None:
        """Return the name of one of the learner's buffers, or None for any other object."""
        return next((name for name, known in self.buffers.items() if known is tensor), None)

    def add_(self, target: Tensor, other: Any, **options: Any) -> Tensor:
        """Replace ``Tensor.add_``: skip a norm's count of batches, which the learner advances once per step."""
        if (self.name_of(target) or "").endswith(COUNT):
            return target
        return target.add_(other, **options)

    def number(self, target: Tensor) -> float:
        """Replace ``Tensor.__float__``: a norm's count of batches includes the current one."""
        # A norm with momentum=None divides by its count right after incrementing it; add_ has skipped the increment.
        return float(target) + (self.name_of(target) or "").endswith(COUNT)

    def detach(self, target: Tensor) -> Tensor:
        """Replace ``Tensor.detach``: return a buffer itself, since ``name_of`` recognises it by identity."""
        return target.detach() if self.name_of(target) is None else target

    def data(self, target: Tensor) -> Tensor:
        """Replace ``Tensor.data``: return a buffer itself, so that writes into it are detected."""
        # writes into .data leave the version counter alone, which without_writes compares
        return target.data if self.name_of(target) is None else target

    def record(self, buffer: Tensor, value: Tensor, momentum: float) -> None:
        """Record the exponential moving average that a fused batch norm would have written into ``buffer``."""
        names = [name for name, known in self.buffers.items() if known is buffer]
        assert names, "a running statistic is none of the learner's buffers: was it an argument of a transform?"
        self.updates[names[0]] = (1 - momentum) * buffer + momentum * value.to(buffer.dtype)

    def statistics(self) -> dict[str, Tensor]:
        """Return ``updates`` as constants; those recorded inside an inner gradient still belong to its graph."""
        return detached(self.updates)

    def bits(self, like: Tensor) -> Tensor:
        """Return 32 fresh random bits per element of ``like``, as int64."""
        self.draws += 1  # part of the hash, so that two calls never give the same bits
        bits: Tensor = random_bits(self.key, self.draws, like.numel())
        return bits.reshape(like.shape)


class Within(TorchFunctionMode):
    """A context in which the calls made by a replacement are intercepted by the task as well."""

    def __init__(self, task: TaskContext) -> None:
        super().__init__()
        self.task = task

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``function`` or its replacement."""
        return self.task.__torch_function__(function, types, args, kwargs)


def multi_head_attention(task: TaskContext, *args: Any, **kwargs: Any) -> Any:
    """Replace ``F.multi_head_attention_forward`` by a copy whose dropout and attention the task intercepts."""
    # 10 and 13 are the places of dropout_p and training in torch's signature
    dropout = kwargs["dropout_p"] if "dropout_p" in kwargs else args[10]
    training = args[13] if len(args) > 13 else kwargs.get("training", True)
    # the compiler can trace torch's own form only
    if not (dropout and training) and (torch.compiler.is_compiling() or not under_autocast(args[0].device)):
        return F.multi_head_attention_forward(*args, **kwargs)
    with Within(task):
        return MULTI_HEAD_ATTENTION(*args, **kwargs)


# torch passes the whole function to a mode and then runs its body without the mode, so that the dropout in it is not
# intercepted. In this copy has_torch_function is False: torch runs the body at once, under the mode.
MULTI_HEAD_ATTENTION = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**F.multi_head_attention_forward.__globals__, "has_torch_function": lambda *_: False},
    F.multi_head_attention_forward.__name__,
    F.multi_head_attention_forward.__defaults__,
)


def current_task() -> TaskContext | None:
    """Return the innermost active context, or None outside of a task."""
    modes = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, TaskContext)]  # type: ignore[no-untyped-call]
    return modes[-1] if modes else None


def task_of_kernels() -> TaskContext | None:
    """Return the innermost task if it allows kernels of metalit and no other mode has to see torch's functions."""
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    if not modes or not all(isinstance(mode, TaskContext) for mode in modes):
        return None
    task: TaskContext = modes[-1]
    return task if task.kernels else None


def map_rows(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply a function to each row of pytrees inside a task, and stack the results.

    It uses ``vmap`` if a gradient over ``vmap`` is known to be correct for the task's network, and a loop otherwise.

    Args:
        function: maps one row of each pytree to a pytree of tensors.
        trees: pytrees of tensors with the rows first, all with the same number of rows.
    """
    task, count = current_task(), len(tree_leaves(trees)[0])
    if task is not None and task.rows_by_vmap and count > 1:
        # randomness is about torch's own generator, which no task reads: its numbers come from the key
        return vmap(function, randomness="different")(*trees)
    rows = [function(*tree_map(lambda leaf, i=i: leaf[i], trees)) for i in range(count)]
    return tree_map(lambda *leaves: torch.stack(leaves), *rows)


def uniform_like(x: Tensor) -> Tensor:
    """Return float64 numbers uniform in (0, 1) in the shape of ``x``; inside a task its key determines them."""
    task = current_task()
    return torch.rand_like(x, dtype=torch.float64) if task is None else uniform(task, x)


def normal_like(x: Tensor) -> Tensor:
    """Return standard normal numbers in the shape and dtype of ``x``; inside a task its key determines them."""
    task = current_task()
    return torch.randn_like(x) if task is None else normal(task, x).to(x.dtype)


def is_in_place(function: Any) -> bool:
    """Return whether a function writes into its first argument, judging by its name."""
    # torch's in-place functions end in an underscore, except for operators such as __iadd__ and for __setitem__
    name = getattr(function, "__name__", "")
    return name.startswith(("__i", "__setitem__")) if name.startswith("__") else name.endswith("_")


@contextmanager
def without_writes(buffers: Mapping[str, Tensor]) -> Iterator[None]:
    """Raise an error if the network changes a buffer, in place or by assigning another tensor.

    Args:
        buffers: the network's buffers by name.

    Raises:
        UserError: a buffer was written; the message names it.
    """

    def refuse_assignment(module: nn.Module, name: str, value: Any) -> None:
        if name in module._buffers and module._buffers[name] is not value:
            raise UserError(WRITTEN.format(f"{name} of {type(module).__name__}"))

    # tensors made under inference_mode have no version counter
    versions = {name: buffer._version for name, buffer in buffers.items() if not buffer.is_inference()}
    hook = register_module_buffer_registration_hook(refuse_assignment)
    try:
        yield
    finally:
        hook.remove()
    # autograd's version counter rises with every write in place
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
    """Replace ``torch.batch_norm``, whose arguments come in another order than those of ``F.batch_norm``."""
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
    """Replace ``torch.instance_norm``, whose arguments come in another order than those of ``F.instance_norm``."""
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
    """Replace ``torch.layer_norm`` and ``F.layer_norm``."""
    return layer_norm(input, normalized_shape, weight, bias, eps)


def without_task(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with an additional first argument, the task, which it ignores."""
    return lambda _, *args, **kwargs: function(*args, **kwargs)


# Replacements by function; each is called with the context before the function's own arguments. A norm is listed under
# each of its names, since a network may call any of them and all are wrong over vmap.
REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    **DRAWS,
    F.batch_norm: TaskContext.batch_norm,
    torch.batch_norm: torch_batch_norm,
    F.instance_norm: TaskContext.instance_norm,
    torch.instance_norm: torch_instance_norm,
    F.layer_norm: torch_layer_norm,
    torch.layer_norm: torch_layer_norm,
    F.multi_head_attention_forward: multi_head_attention,
    F.conv2d: without_task(conv2d),
    F.one_hot: without_task(one_hot),
    F.embedding: without_task(embedding),
    F.embedding_bag: without_task(embedding_bag),
    F.hardsigmoid: without_task(hardsigmoid),
    Tensor.add_: TaskContext.add_,
    Tensor.__iadd__: TaskContext.add_,
    Tensor.detach: TaskContext.detach,
}
# also replaced in eager mode, but not while compiling (see TaskContext.__init__)
EAGER_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    **REPLACEMENTS,
    Tensor.__float__: TaskContext.number,
    Tensor.data.__get__: TaskContext.data,  # type: ignore[attr-defined]
    # False keeps nn.TransformerEncoder off its fast path of evaluation mode, whose nested tensors vmap cannot handle
    torch._nested_tensor_from_mask_left_aligned: lambda *_: False,
}
