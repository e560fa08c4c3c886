"""Activation checkpointing: recompute a function in the backward pass instead of storing its graph.

``torch.utils.checkpoint`` does not work with ``torch.func``; this version does, ``vmap`` included.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from metalit.tasks.precision import without_autocast
from metalit.tasks.task_context import TaskContext, current_task

Flat = Callable[..., tuple[Tensor, ...]]


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
    generate_vmap_rule = True

    @staticmethod
    def forward(flat: Flat, *tensors: Tensor) -> tuple[Tensor, ...]:
        return flat(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.flat = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.mark_non_differentiable(*[leaf for leaf in output if not leaf.is_floating_point()])
        ctx.floating = [i for i, leaf in enumerate(output) if leaf.is_floating_point()]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        count, flat = len(ctx.saved_tensors), ctx.flat
        inexact = [i for i, tensor in enumerate(ctx.saved_tensors) if tensor.is_floating_point()]

        def pulled_back(*given: Tensor) -> tuple[Tensor, ...]:
            tensors, cotangent = list(given[:count]), given[count:]

            # integers, such as the key and labels, have no derivative: vjp receives the floating-point tensors only
            def of_inexact(*values: Tensor) -> tuple[Tensor, ...]:
                full = list(tensors)
                for i, value in zip(inexact, values, strict=True):
                    full[i] = value
                return tuple(leaf for leaf in flat(*full) if leaf.is_floating_point())

            # the function enables autocast itself where it wants it; that of the caller of backward must not add to it
            with without_autocast(tensors[0].device):
                _, pull_back, *_ = vjp(of_inexact, *[tensors[i] for i in inexact])
                return as_new(list(pull_back(cotangent)), given)

        # Apply the autograd function instead of calling pulled_back: torch cannot take a vjp in a backward pass that
        # itself runs inside vmap.
        given = (*ctx.saved_tensors, *[cotangents[i] for i in ctx.floating])
        gradients = iter(_Recomputed.apply(pulled_back, *given))  # type: ignore[no-untyped-call]
        return (None, *[next(gradients) if i in inexact else None for i in range(count)])
