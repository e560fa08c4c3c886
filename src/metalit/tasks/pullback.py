"""Derivatives by autograd, which costs less than ``torch.func`` and frees a graph on its way back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._C import _functions
from torch.func import grad_and_value

from metalit.errors import UserError
from metalit.tasks.levels import levels
from metalit.tasks.parameters import Params

functions: Any = _functions  # torch's functions in C++; ``once_differentiable`` looks up its error there at each use
DELAYED = functions.DelayedError
refusing: list[bool] = []  # an entry for each open context, in any thread; the last one restores the error
# torch's checkpoint runs a network again after the task's parameters have left it
NO_HOOKS = "an inner gradient cannot take saved tensor hooks, such as torch.utils.checkpoint; use checkpoint_steps"


def can_use_autograd() -> bool:
    """Whether nothing is at work that autograd knows nothing of: the compiler, ``torch.func``, or inference mode."""
    return not (torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or levels())


def gradient_and_value(
    function: Callable[..., Tensor], parameters: Params, *others: Any, higher: bool = True
) -> tuple[Params, Tensor]:
    """Return the gradient of ``function(parameters, *others)``, 0-d, by the parameters, and its value.

    Both are differentiable, as those of ``torch.func.grad_and_value`` are, wherever gradients are enabled.

    Args:
        function: a pure function.
        parameters: tensors by name.
        others: further arguments.
        higher: whether they need be differentiable.

    Raises:
        UserError: the value is not 0-d.
        RuntimeError: a derivative has none itself although ``higher``, or the function saves tensors by hooks.
    """
    higher = higher and torch.is_grad_enabled()
    with refusing_what_ends_here() if higher else nullcontext():
        if not can_use_autograd():
            return grad_and_value(function)(parameters, *others)
        return by_autograd(function, parameters, *others, higher=higher)


def by_autograd(
    function: Callable[..., Tensor], parameters: Params, *others: Any, higher: bool
) -> tuple[Params, Tensor]:
    """Return ``gradient_and_value`` by autograd."""
    with torch.enable_grad(), torch.autograd.graph.disable_saved_tensors_hooks(NO_HOOKS):
        # tensors of their own, for the function may depend on a parameter in other ways too
        values = {name: apart(value, higher) for name, value in parameters.items()}
        value = function(values, *others)
    if value.dim():
        raise UserError(f"a loss is 0-d, not of shape {list(value.shape)}: take its mean")
    leaves = list(values.values())
    # from constants to constants nothing may be differentiable, or each step would keep the graph of all before it
    higher = higher and (any(each.requires_grad for each in parameters.values()) or depends_on_others(value, leaves))
    # of a cotangent that needs no gradient, torch does not say that a derivative has none
    gradient = gradients_of([value], leaves, [torch.ones_like(value, requires_grad=higher)], higher=higher)
    return dict(zip(values, gradient, strict=True)), value if higher else value.detach()


def depends_on_others(value: Tensor, leaves: Sequence[Tensor]) -> bool:
    """Whether a value depends on a leaf of autograd that is not one of these."""
    known, seen, ahead = set(map(id, leaves)), set(), [value.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # which only nodes of leaves have
        if leaf is not None and id(leaf) not in known:
            return True
        ahead.extend(following for following, _ in node.next_functions)
    return False


@contextmanager
def refusing_what_ends_here() -> Iterator[None]:
    """Raise an error where torch computes a derivative that is marked as having none itself (``once_differentiable``).

    Torch puts its error into the graph apart from all inputs, so that a gradient by chosen inputs is 0 and no error.
    """
    if torch.compiler.is_compiling():
        yield
        return
    refusing.append(True)
    functions.DelayedError = refuse
    try:
        yield
    finally:
        refusing.pop()
        if not refusing:
            functions.DelayedError = DELAYED


def refuse(message: bytes, _: int) -> NoReturn:
    """Raise the error that torch would delay."""
    raise RuntimeError(message.decode())


def apart(value: Tensor, higher: bool) -> Tensor:
    """Return an equal tensor that requires a gradient, through which derivatives reach the first one if ``higher``."""
    return value.view_as(value) if higher and value.requires_grad else value.detach().requires_grad_()


def gradients_of(
    results: Sequence[Tensor], values: Sequence[Tensor], cotangent: Sequence[Tensor], *, higher: bool = False
) -> tuple[Tensor, ...]:
    """Return the derivative of results, weighted by a cotangent, with respect to values; 0 where none depends on them.

    Args:
        results: tensors computed from ``values``, all or some of them.
        values: tensors that require a gradient.
        cotangent: a tensor of the shape of each result.
        higher: whether the derivative is differentiable.
    """
    if not values:
        return ()
    pairs = [pair for pair in zip(results, cotangent, strict=True) if pair[0].requires_grad]
    if not pairs:
        return tuple(map(torch.zeros_like, values))
    depending, weights = zip(*pairs, strict=True)
    return torch.autograd.grad(
        depending, values, weights, create_graph=higher, allow_unused=True, materialize_grads=True
    )
