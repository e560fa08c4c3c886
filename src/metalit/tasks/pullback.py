"""Derivatives by autograd, which costs less than ``torch.func`` and frees a graph on its way back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._C import _functions
from torch.func import grad_and_value

from metalit.tasks.levels import levels
from metalit.tasks.parameters import Params

functions: Any = _functions  # of torch in C++, where the error of ``once_differentiable`` is looked up at each use
# torch's checkpoint runs a network again after the task's parameters have left it
NO_HOOKS = "an inner gradient cannot take saved tensor hooks, such as torch.utils.checkpoint; use checkpoint_steps"


def can_use_autograd() -> bool:
    """Whether neither the compiler nor a transform of ``torch.func`` is at work, which autograd knows nothing of."""
    return not torch.compiler.is_compiling() and not levels()


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
    """
    higher = higher and torch.is_grad_enabled()
    with refusing_what_ends_here() if higher else nullcontext():
        if not can_use_autograd():
            return grad_and_value(function)(parameters, *others)
        with torch.enable_grad(), torch.autograd.graph.disable_saved_tensors_hooks(NO_HOOKS):
            # tensors of their own, for the function may depend on a parameter in other ways too
            values = {name: apart(value, higher) for name, value in parameters.items()}
            value = function(values, *others)
        gradient = gradients_of([value], list(values.values()), [torch.ones_like(value)], higher=higher)
    return dict(zip(values, gradient, strict=True)), value if higher else value.detach()


@contextmanager
def refusing_what_ends_here() -> Iterator[None]:
    """Raise an error where torch computes a derivative that is marked as having none itself (``once_differentiable``).

    Torch puts its error into the graph apart from all inputs, so that a gradient by chosen inputs is 0 and no error.
    """
    if torch.compiler.is_compiling():
        yield
        return
    before, functions.DelayedError = functions.DelayedError, refuse
    try:
        yield
    finally:
        functions.DelayedError = before


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
    pairs = [pair for pair in zip(results, cotangent, strict=True) if pair[0].requires_grad]
    if not pairs:
        return tuple(map(torch.zeros_like, values))
    depending, weights = zip(*pairs, strict=True)
    return torch.autograd.grad(
        depending, values, weights, create_graph=higher, allow_unused=True, materialize_grads=True
    )
