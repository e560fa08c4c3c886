"""The chain rule through a batch of tasks: differentiate the objective, then pull back to the parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vjp
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from metalit.objectives import Objective
from metalit.outcome import Outcome
from metalit.ranks import gather_tasks, own_tasks, padded_to_longest, world_size
from metalit.tasks.parameters import Params
from metalit.tasks.precision import at_least_float32, without_autocast
from metalit.tasks.pullback import can_use_autograd, gradients_of

Leaves = tuple[Tensor, ...]
Scale = Tensor | float | None
Pullback = Callable[[Leaves], Params]
LeavesAndOutcome = tuple[Leaves, Outcome]  # an alias, since torch.compile cannot trace a subscript in an annotation


def float_leaves(outcome: Outcome) -> Leaves:
    """Return the differentiable tensors of an outcome; running statistics are constants and not among them."""
    leaves = tree_leaves(outcome._replace(buffers={}))
    return tuple(leaf for leaf in leaves if leaf.is_floating_point())


def with_float_leaves(outcome: Outcome, leaves: Leaves) -> Outcome:
    """Return the outcome with its ``float_leaves`` replaced."""
    own, spec = tree_flatten(outcome._replace(buffers={}))
    given = iter(leaves)
    replaced = [next(given) if leaf.is_floating_point() else leaf for leaf in own]
    return tree_unflatten(replaced, spec)._replace(buffers=outcome.buffers)  # type: ignore[no-any-return]


def differentiated(run: Callable[[Params], Outcome], parameters: Params) -> tuple[Outcome, Pullback]:
    """Return (the outcome, its pullback from a derivative of the float leaves to one of the parameters).

    The pullback may be called once, and its result is a constant: it frees the graph while it goes through it.
    """
    if not can_use_autograd():
        return differentiated_by_func(run, parameters)
    values = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    with torch.enable_grad():
        outcome = run(values)
    leaves = float_leaves(outcome)

    def pull_back(cotangent: Leaves) -> Params:
        with without_autocast(leaves[0].device):  # the forward pass has already chosen the precision of each operation
            return dict(zip(values, gradients_of(leaves, list(values.values()), cotangent), strict=True))

    return tree_map(Tensor.detach, outcome), pull_back


def differentiated_by_func(run: Callable[[Params], Outcome], parameters: Params) -> tuple[Outcome, Pullback]:
    """Return ``differentiated`` within ``vmap`` or the compiler, where autograd cannot be called."""

    def leaves_and_outcome(parameters: Params) -> LeavesAndOutcome:
        outcome = run(parameters)
        return float_leaves(outcome), outcome

    leaves, pullback, outcome = vjp(leaves_and_outcome, parameters, has_aux=True)  # type: ignore[misc]

    def pull_back(cotangent: Leaves) -> Params:
        with without_autocast(leaves[0].device):
            return pullback(cotangent, retain_graph=False, create_graph=False)[0]  # type: ignore[no-any-return]

    return outcome, pull_back


def derivative(objective: Objective, outcome: Outcome, scale: Scale = None) -> tuple[Leaves, Tensor]:
    """Return (the objective's derivative with respect to the float leaves of this rank's outcomes, its value).

    Args:
        objective: the objective to differentiate.
        outcome: the outcomes of all tasks of this rank.
        scale: factor of the derivative; 1 if not given.
    """
    # a mean over tasks needs no exchange: DDP's average of the ranks' gradients is the gradient over all tasks
    everyone = world_size() > 1 and objective.over_all_tasks
    seen = outcome
    if everyone:
        # tasks of unequal size: on another rank the longest task may have more queries
        alike = outcome._replace(buffers={}, predictions=padded_to_longest(outcome.predictions))
        seen = gather_tasks(alike)

    def total(leaves: Leaves) -> Tensor:
        return objective.total(with_float_leaves(seen, leaves))

    cotangent, value = grad_and_value(total)(float_leaves(seen))
    # Every rank differentiates the objective of all tasks and keeps the part of its own tasks. These parts have to be
    # summed over the ranks, but DDP averages them.
    if everyone:
        parts = zip(own_tasks(cotangent), float_leaves(outcome), strict=True)
        cotangent = tuple(world_size() * part[tuple(map(slice, own.shape))] for part, own in parts)
    return cotangent if scale is None else tuple(scaled(leaf, scale) for leaf in cotangent), value


def scaled(leaf: Tensor, scale: Tensor | float) -> Tensor:
    """Return a leaf times a scale, which may exceed float16's range: cast to float16 it would turn 0 into NaN."""
    return (at_least_float32(leaf) * scale).to(leaf.dtype)


def derivative_within_vmap(objective: Objective, outcome: Outcome, scale: Scale = None) -> tuple[Leaves, Tensor]:
    """Return ``derivative`` from inside ``vmap`` over the tasks: the objective sees all, each task gets its own part.

    Args:
        objective: the objective to differentiate; it may mix tasks.
        outcome: the outcome of one task.
        scale: as in ``derivative``.
    """
    leaves, spec = tree_flatten(outcome)

    def of_all(leaves: list[Tensor]) -> tuple[Leaves, Tensor]:
        return derivative(objective, tree_unflatten(leaves, spec), scale)

    *cotangent, value = _OfAllTasks.apply(of_all, *leaves)  # type: ignore[no-untyped-call]
    return tuple(cotangent), value


class _OfAllTasks(torch.autograd.Function):
    """Call a function of all tasks from inside ``vmap`` over them, where code sees a single task."""

    # only the vmap rule is ever called: it receives the tensors of all tasks at once

    @staticmethod
    def forward(*inputs: Any) -> Leaves:  # noqa: ARG004
        raise AssertionError("called outside of vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Leaves) -> None:  # noqa: ARG004
        raise AssertionError("called outside of vmap")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], of_all: Any, *leaves: Tensor) -> tuple[Leaves, Any]:
        batched = [
            leaf.expand(info.batch_size, *leaf.shape) if dim is None else leaf.movedim(dim, 0)
            for leaf, dim in zip(leaves, in_dims[1:], strict=True)
        ]
        cotangent, value = of_all(batched)
        return (*cotangent, value), (*[0] * len(cotangent), None)  # a derivative per task, one value for all


def mapped_with_gradient(
    run: Callable[[Params], Outcome],
    pull_back: Callable[[Params, Leaves], Params],
    parameters: Params,
) -> Outcome:
    """Return ``run(parameters)`` such that autograd uses ``pull_back`` as its backward pass.

    Args:
        run: maps the parameters to all tasks' outcomes.
        pull_back: maps the parameters and a derivative with respect to the outcomes' float leaves to the derivative
            with respect to the parameters.
        parameters: parameters by name, some of which require a gradient.
    """
    found: dict[str, Any] = {}

    def flat(values: Leaves) -> tuple[list[Tensor], list[bool]]:
        outcome = run(dict(zip(parameters, values, strict=True)))
        leaves, found["spec"] = tree_flatten(outcome)
        differentiable = {id(leaf) for leaf in float_leaves(outcome)}
        return leaves, [id(leaf) in differentiable for leaf in leaves]

    def back(values: Leaves, cotangent: Leaves) -> Leaves:
        return tuple(pull_back(dict(zip(parameters, values, strict=True)), cotangent).values())

    leaves = _WithPullback.apply(flat, back, *parameters.values())  # type: ignore[no-untyped-call]
    return tree_unflatten(list(leaves), found["spec"])  # type: ignore[no-any-return]


class _WithPullback(torch.autograd.Function):
    """A function with a given pullback, which runs the forward pass again under the same autocast setting."""

    @staticmethod
    def forward(ctx: Any, flat: Any, back: Any, *values: Tensor) -> Leaves:
        leaves, differentiable = flat(values)
        ctx.back, ctx.differentiable = back, differentiable
        ctx.save_for_backward(*values)
        constants = [leaf for leaf, moves in zip(leaves, differentiable, strict=True) if not moves]
        ctx.mark_non_differentiable(*constants)
        device = values[0].device.type
        # backward may be called outside of the autocast that the forward pass ran under
        ctx.autocast = partial(
            torch.autocast,
            device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
        )
        return tuple(leaves)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        moving = tuple(c for c, moves in zip(cotangents, ctx.differentiable, strict=True) if moves)
        with ctx.autocast():
            return (None, None, *ctx.back(ctx.saved_tensors, moving))
