"""A finished meta-gradient as part of an ordinary backward pass."""

from typing import Any

import torch
from torch import Tensor

from metalit.tasks.parameters import Params


class FinishedGradient(torch.autograd.Function):
    """A scalar whose backward pass returns a gradient that has already been computed.

    A meta-gradient computed by ``torch.func`` thus enters Lightning's automatic optimisation like any other gradient:
    loss scaling, clipping, accumulation and the hooks of DDP all apply to it.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Tensor | None, count: int, *tensors: Tensor) -> Tensor:
        """Return ``value``; ``tensors`` are ``count`` gradients followed by their ``count`` parameters."""
        ctx.scale = scale
        ctx.save_for_backward(value, *tensors[:count])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the stored gradients, divided by their own scale and multiplied by the incoming gradient."""
        value, *gradients = ctx.saved_tensors
        factor = grad_outputs[0] if ctx.scale is None else grad_outputs[0] / ctx.scale
        # A non-finite value makes the gradient non-finite too. DDP's average then carries it to every rank, so that all
        # ranks stop at the same step without a message of their own.
        factor = factor + 0 * value
        return (None, None, None, *[None] * len(gradients), *[factor * g for g in gradients])


def with_gradient(value: Tensor, gradient: Params, parameters: Params, scale: Tensor | None = None) -> Tensor:
    """Return ``value`` with a backward pass that adds ``gradient`` to the gradients of ``parameters``.

    Args:
        value: the meta-loss, 0-d.
        gradient: its gradient by name, multiplied by ``scale``.
        parameters: the parameters by name.
        scale: the factor already contained in ``gradient``; 1 if not given.
    """
    order = list(parameters)
    tensors = [gradient[name] for name in order] + [parameters[name] for name in order]
    return FinishedGradient.apply(value, scale, len(order), *tensors)  # type: ignore[no-any-return, no-untyped-call]
