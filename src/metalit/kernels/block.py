"""A block of convolution, batch norm, (leaky) ReLU and max-pooling of many tasks on a CPU, with two derivatives.

Under ``vmap`` torch makes one grouped convolution of all tasks, of permuted copies of the maps, and every function
after it passes over the maps of all tasks. Here a task goes through the whole block while its maps are in the cache,
with the channels last in memory, and torch's threads share out the tasks. With y = conv(x, w), M its values
per channel and task, r = 1 / sqrt(var(y) + eps) and h = (y - mean(y)) r,

    z = pool(relu(gamma h + beta)).

The backward pass sends a derivative g of z to the pixels that were the maxima, and with S1 = sum g and S2 = sum g h

    gy = gamma r (g - S1 / M - h S2 / M),    ggamma = S2,    gbeta = S1,
    gx = conv_x(gy, w),    gw = conv_w(gy, x).

The derivative of this backward pass is written out in ``norm_pool.h``; the convolutions in it are again the three
partial derivatives of one trilinear form (``convolution.h``). Derivatives of third order are left to torch
(``reference.py``).
"""

from collections.abc import Sequence
from functools import wraps
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import DisableTorchFunction

from metalit.kernels.calls import (
    BACKWARD,
    DOUBLE_BACKWARD,
    FORWARD,
    empty_maps,
    empty_weights,
    maps_in_order,
    run,
    weights_in_order,
)
from metalit.kernels.folding import folded, reduced, unfolded
from metalit.kernels.form import Form
from metalit.kernels.reference import third_derivatives

Tensors = tuple[Tensor, ...]


def unseen(method: Any) -> Any:
    """Return a method whose calls of torch no mode sees; the task's would take microseconds for each."""

    @wraps(method)
    def quiet(*args: Any) -> Any:
        with DisableTorchFunction():
            return method(*args)

    return quiet


class Wanted(tuple[int, ...]):
    """The number of tasks of each possible result, T or 1; 0 leaves the result out."""

    # a class of its own, since torch takes plain tuples of an autograd function's arguments apart, at each call


class Maps(NamedTuple):
    """The results of a block: its maps ``[T, n, outputs, height, width]``, and statistics ``[T, outputs]`` before it.

    Mean and biased variance are those of the convolution's outputs; they are constants of the gradient.
    """

    maps: Tensor
    mean: Tensor
    variance: Tensor


def conv_block(x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, form: Form) -> Maps:
    """Convolve each task's images with its weights, normalise by its own statistics, then affine, ReLU and pooling.

    Args:
        x: ``[T, n, inputs, height, width]``, float32 or float64, on the CPU. T is the number of tasks, or 1 in a tensor
            that all tasks share; so it is in the others.
        weight: ``[T, outputs, inputs, rows, columns]``.
        gamma: ``[T, outputs]``, the scale.
        beta: ``[T, outputs]``, the shift.
        form: the settings of the layers.
    """
    maps, _, mean, variance, *_ = _Forward.apply(x, weight, gamma, beta, form)  # type: ignore[no-untyped-call]
    return Maps(maps, mean, variance)


def tasks_of(*tensors: Tensor | None) -> int:
    """Return the number of tasks of tensors with a task axis of T or 1."""
    return max(tensor.size(0) for tensor in tensors if tensor is not None)


class _Forward(torch.autograd.Function):
    @staticmethod
    @unseen
    def forward(x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, form: Form) -> Tensors:
        tasks, channels = tasks_of(x, weight, gamma, beta), weight.size(1)
        sides = form.convolved(x.shape[3:], weight.shape[3:])
        y, maps = (
            empty_maps(tasks, (x.size(1), channels, *(side // pool for side in sides)), x) for pool in (1, form.pool)
        )
        mean, variance, rate = (x.new_empty(tasks, channels) for _ in range(3))
        code = torch.empty_like(maps, dtype=torch.uint8)
        given = (maps_in_order(x), weights_in_order(weight), gamma.contiguous(), beta.contiguous())
        run(FORWARD, tasks, x, weight, form, (*given, y, maps, code, mean, variance, rate))
        return maps, y, mean, variance, rate, code

    @staticmethod
    @unseen
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        x, weight, gamma, beta, ctx.form = inputs
        _, y, mean, variance, rate, code = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, variance, rate, code)
        ctx.save_for_backward(x, weight, gamma, y, mean, rate, code)
        ctx.wanted = (x.size(0), weight.size(0), gamma.size(0), beta.size(0))

    @staticmethod
    @unseen
    def backward(ctx: Any, g: Tensor | None, of_y: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        _, _, _, y, *_, code = ctx.saved_tensors
        if g is None:
            g = y.new_zeros(code.shape)
        wanted = Wanted((ctx.wanted[0] * ctx.needs_input_grad[0], *ctx.wanted[1:]))
        gradients = _Backward.apply(g, of_y, *ctx.saved_tensors, ctx.form, wanted)  # type: ignore[no-untyped-call]
        return (*with_gaps(gradients, wanted), None)

    @staticmethod
    @unseen
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensors, tuple[int, ...]]:
        *tensors, form = inputs
        given, tasks = folded(info.batch_size, dims[:-1], tensors)
        out = _Forward.apply(*given, form)  # type: ignore[no-untyped-call]
        return tuple(unfolded(each, info.batch_size, tasks, tasks) for each in out), (0,) * len(out)


class _Backward(torch.autograd.Function):
    # of_y is a derivative of y itself, which only a second derivative has
    @staticmethod
    @unseen
    def forward(
        g: Tensor, of_y: Tensor | None, x: Tensor, weight: Tensor, gamma: Tensor, y: Tensor, mean: Tensor, rate: Tensor,
        code: Tensor, form: Form, wanted: Wanted,
    ) -> Tensors:  # fmt: skip
        tasks = tasks_of(g, of_y, x, weight, gamma, y)
        gx, gw = empty_maps(tasks, x.shape[1:], x) if wanted[0] else None, empty_weights(tasks, weight.shape[1:], x)
        ggamma, gbeta = (x.new_empty(tasks, y.size(2)) for _ in range(2))
        given = saved_in_order(g, of_y, x, weight, gamma, y, mean, rate, code)
        run(BACKWARD, tasks, x, weight, form, (*given, gx, gw, ggamma, gbeta))
        return results((gx, gw, ggamma, gbeta), wanted)

    @staticmethod
    @unseen
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:  # noqa: ARG004
        *tensors, ctx.form, ctx.wanted = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @unseen
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        vx, *others = with_gaps(cotangents, ctx.wanted)
        g, of_y, x, weight, gamma, y, *_ = ctx.saved_tensors
        asked = (True, ctx.needs_input_grad[2], vx is not None, True, True, ctx.needs_input_grad[1])
        wanted = Wanted(of.size(0) if ask else 0 for of, ask in zip((g, x, weight, gamma, y, of_y), asked, strict=True))
        gradients = _DoubleBackward.apply(vx, *others, *ctx.saved_tensors, ctx.form, wanted)  # type: ignore[no-untyped-call]
        og, ox, oweight, ogamma, oy, of_of_y = with_gaps(gradients, wanted)
        return (og, of_of_y, ox, oweight, ogamma, oy, None, None, None, None, None)

    @staticmethod
    @unseen
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensors, tuple[int, ...]]:
        return mapped(_Backward, info.batch_size, dims, inputs)


class _DoubleBackward(torch.autograd.Function):
    # vx is None if gx was not asked for
    @staticmethod
    @unseen
    def forward(
        vx: Tensor | None, vw: Tensor, a: Tensor, b: Tensor, g: Tensor, of_y: Tensor | None, x: Tensor, weight: Tensor,
        gamma: Tensor, y: Tensor, mean: Tensor, rate: Tensor, code: Tensor, form: Form, wanted: Wanted,
    ) -> Tensors:  # fmt: skip
        tasks = tasks_of(vx, vw, a, b, g, of_y, x, weight, gamma, y)
        og, oy = (empty_maps(tasks, each.shape[1:], x) for each in (g, y))
        ox = empty_maps(tasks, x.shape[1:], x) if wanted[1] else None
        oweight = empty_weights(tasks, weight.shape[1:], x) if wanted[2] else None
        ogamma, of_of_y = x.new_empty(tasks, y.size(2)), torch.empty_like(oy) if wanted[5] else None
        given = saved_in_order(g, of_y, x, weight, gamma, y, mean, rate, code)
        cotangents = (vx if vx is None else maps_in_order(vx), weights_in_order(vw), a.contiguous(), b.contiguous())
        run(DOUBLE_BACKWARD, tasks, x, weight, form, (*given, *cotangents, og, ox, oweight, ogamma, oy, of_of_y))
        return results((og, ox, oweight, ogamma, oy, of_of_y), wanted)

    @staticmethod
    @unseen
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:  # noqa: ARG004
        *tensors, ctx.form, ctx.wanted = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @unseen
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        return (*third_derivatives(ctx.saved_tensors, with_gaps(cotangents, ctx.wanted), ctx.form), None, None)

    @staticmethod
    @unseen
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensors, tuple[int, ...]]:
        return mapped(_DoubleBackward, info.batch_size, dims, inputs)


def mapped(function: Any, size: int, dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Tensors, tuple[int, ...]]:
    """Return what ``vmap`` of an autograd function returns, whose last argument is the tasks of each result."""
    *tensors, form, wanted = inputs
    given, tasks = folded(size, dims[: len(tensors)], tensors)
    out = function.apply(*given, form, Wanted(size * tasks if n else 0 for n in wanted))
    found = tuple(unfolded(each, size, tasks, n) for each, n in zip(out, filter(None, wanted), strict=True))
    return found, (0,) * len(found)


def results(tensors: Sequence[Tensor | None], wanted: Wanted) -> Tensors:
    """Return the wanted tensors, each of T or of 1 task, which sums what all tasks share."""
    given = zip(tensors, wanted, strict=True)
    return tuple(reduced(tensor, n) for tensor, n in given if n and tensor is not None)


def with_gaps(tensors: Sequence[Tensor], wanted: Wanted) -> list[Tensor | None]:
    """Return ``results`` with None in the place of each tensor that was not wanted."""
    given = iter(tensors)
    return [next(given) if n else None for n in wanted]


def saved_in_order(
    g: Tensor,
    of_y: Tensor | None,
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    y: Tensor,
    mean: Tensor,
    rate: Tensor,
    code: Tensor,
) -> list[Tensor | None]:
    """Return the tensors that the derivatives share in their order of memory."""
    return [
        maps_in_order(g),
        None if of_y is None else maps_in_order(of_y),
        maps_in_order(x),
        weights_in_order(weight),
        gamma.contiguous(),
        maps_in_order(y),
        mean.contiguous(),
        rate.contiguous(),
        maps_in_order(code),
    ]


_functions: tuple[Any, ...] = (_Forward, _Backward, _DoubleBackward)
for _function in _functions:
    _function.forward.__signature__ = signature(_function.forward)  # which torch asks for at each call
