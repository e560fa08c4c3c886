"""Activation checkpointing: recompute a function in the backward pass instead of storing its graph.

``torch.utils.checkpoint`` does not work with ``torch.func``; this version does, ``vmap`` included.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from metalit.tasks.precision import without_autocast
from metalit.tasks.pullback import can_use_autograd, gradients_of
from metalit.tasks.task_context import TaskContext, current_task

Flat = Callable[..., tuple[Tensor, ...]]
Part = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, ...]]


def checkpointed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with checkpointing: only its arguments are stored for the backward pass.

    Args:
        function: a pure function from pytrees of tensors to a pytree of tensors. Tensors that differ between tasks must
            be arguments, not closed over.
    """

    def wrapped(*arguments: Any) -> Any:
        context = current_task()
        # A norm's running statistics are looked up among the buffers by identity. An argument of the autograd function
        # would arrive as another object, so buffers are closed over instead.
        buffers = {id(buffer) for buffer in context.buffers.values()} if context else set()

        def passes(leaf: Any) -> bool:
            return isinstance(leaf, Tensor) and id(leaf) not in buffers

        leaves, spec = tree_flatten(arguments)
        is_tensor = [passes(leaf) for leaf in leaves]
        tensors = [leaf for leaf, tensor in zip(leaves, is_tensor, strict=True) if tensor]
        draws = context.draws if context else 0
        found: dict[str, Any] = {}  # the parts of the result that are not tensors

        def flat(key: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            """Compute the results from tensors alone, in a context that continues the current one."""
            given = iter(tensors)
            full = [next(given) if tensor else leaf for leaf, tensor in zip(leaves, is_tensor, strict=True)]
            inner = TaskContext(
                key,
                context.buffers if context else {},
                rows_by_vmap=context is not None and context.rows_by_vmap,
                kernels=context is not None and context.kernels,
            )
            # the same key and the same count of draws: the recomputation sees the dropout masks of the forward pass
            inner.draws = draws
            # fused attention kernels have no second derivative; the backward pass runs outside the engine's setting
            with sdpa_kernel(SDPBackend.MATH), aside(context), inner:
                result = function(*tree_unflatten(full, spec))
            # tensors may leave an autograd function only as its outputs, so running statistics are returned too
            results, found["spec"] = tree_flatten((result, inner.statistics()))
            found["draws"] = inner.draws
            found["constants"] = [None if passes(leaf) else leaf for leaf in results]
            return as_new([leaf for leaf in results if passes(leaf)], tensors)

        # the key differs between tasks, so it has to be an argument, not closed over
        key = context.key if context else torch.zeros((), dtype=torch.int64)
        results = iter(_Recomputed.apply(flat, key, *tensors))  # type: ignore[no-untyped-call]
        full = [next(results) if constant is None else constant for constant in found["constants"]]
        result, updates = tree_unflatten(full, found["spec"])
        if context:
            context.updates.update(updates)
            context.draws = found["draws"]
        return result

    return wrapped


@contextmanager
def aside(context: TaskContext | None) -> Iterator[None]:
    """Let a context replace nothing, so that it does not replace what the replacements of an inner one call."""
    if context is None:
        yield
        return
    before, context.replaces = context.replaces, False
    try:
        yield
    finally:
        context.replaces = before


def as_new(results: list[Tensor], given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the results, with views in place of unchanged arguments, as ``torch.autograd.Function`` requires."""
    ids = {id(tensor) for tensor in given}
    return tuple(leaf.view_as(leaf) if id(leaf) in ids else leaf for leaf in results)


class _Recomputed(torch.autograd.Function):
    # Its backward pass is itself an application of _Recomputed, so derivatives of any order are recomputed.

    @staticmethod
    def forward(flat: Flat, *tensors: Tensor) -> tuple[Tensor, ...]:
        return flat(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.flat = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[leaf for leaf in output if not leaf.is_floating_point()])
        ctx.floating = [i for i, leaf in enumerate(output) if leaf.is_floating_point()]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        given, flat = ctx.saved_tensors, ctx.flat
        # None for results that nothing depends on
        used = [i for i in ctx.floating if cotangents[i] is not None]
        # without those that need no gradient: a derivative of the images costs as much as one of the first weights
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[1:]) if needed and given[i].is_floating_point()]
        if not used or not wanted:
            return (None,) * (1 + len(given))
        part = partial(partly, flat, used, wanted)
        values, cotangent = [given[i] for i in wanted], [cotangents[i] for i in used]
        if can_use_autograd() and not torch.is_grad_enabled():
            found = pulled_back_once(part, given, values, cotangent)
        else:
            # the autograd function instead of a call of pulled_back: torch cannot take a vjp in a backward pass that
            # itself runs inside vmap
            found = _Recomputed.apply(pulled_back(part, len(given), len(wanted)), *given, *values, *cotangent)  # type: ignore[no-untyped-call]
        gradients = iter(found)
        return (None, *[next(gradients) if i in wanted else None for i in range(len(given))])

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], flat: Flat, *tensors: Tensor) -> tuple[Any, Any]:  # noqa: ARG004
        # a function of all tasks, which an ordinary backward pass then recomputes for all of them
        found = _Recomputed.apply(vmap(flat, dims[1:], randomness="different"), *tensors)  # type: ignore[no-untyped-call]
        return found, (0,) * len(found)


def partly(
    flat: Flat, used: list[int], wanted: list[int], given: Sequence[Tensor], values: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return the used results of ``flat`` as a function of its wanted tensors, the others as given."""
    full = list(given)
    for i, value in zip(wanted, values, strict=True):
        full[i] = value
    results = flat(*full)
    return tuple(results[i] for i in used)


def pulled_back(part: Part, count: int, wanted: int) -> Flat:
    """Return a function from all tensors, the ``wanted`` of them once more, and a cotangent, to derivatives."""

    def derivatives(*tensors: Tensor) -> tuple[Tensor, ...]:
        given, values, cotangent = tensors[:count], tensors[count : count + wanted], tensors[count + wanted :]
        # the function enables autocast itself where it wants it; that of the caller of backward must not add to it
        with without_autocast(tensors[0].device):
            _, pull_back, *_ = vjp(lambda *values: part(given, values), *values)
            return as_new(list(pull_back(tuple(cotangent))), tensors)

    return derivatives


def pulled_back_once(
    part: Part, given: Sequence[Tensor], values: Sequence[Tensor], cotangent: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return the derivatives as constants; unlike ``vjp`` it frees the graph on its way back."""
    leaves = [value.detach().requires_grad_() for value in values]
    with without_autocast(given[0].device):
        with torch.enable_grad():
            results = part(given, leaves)
        return gradients_of(results, leaves, cotangent)
