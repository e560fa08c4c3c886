"""A block of convolution, batch norm, (leaky) ReLU and max-pooling of many tasks on a CPU, with two derivatives.

Under ``vmap`` torch makes one grouped convolution of all tasks, of permuted copies of the maps, and every function
after it passes over the maps of all tasks. Here a task goes through the whole block while its maps are in the cache,
with the channels last in memory, where the machine's own convolutions are fastest. With y = conv(x, w), M its values
per channel and task, r = 1 / sqrt(var(y) + eps) and h = (y - mean(y)) r,

    z = pool(relu(gamma h + beta)).

The backward pass sends a derivative g of z to the pixels that were the maxima, and with S1 = sum g and S2 = sum g h

    gy = gamma r (g - S1 / M - h S2 / M),    ggamma = S2,    gbeta = S1,
    gx = conv_x(gy, w),    gw = conv_w(gy, x).

The derivative of this backward pass is written out in ``norm_pool.cpp``; the convolutions in it are again the three
partial derivatives of one trilinear form. Derivatives of third order are left to torch (``reference.py``).
"""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalit.kernels.folding import folded, reduced, unfolded
from metalit.kernels.form import Form
from metalit.kernels.norm_pool import BACKWARD, DOUBLE_BACKWARD, FORWARD, Kernel
from metalit.kernels.reference import third_derivatives
from metalit.kernels.threads import for_tasks

CONVOLUTION, CONVOLUTION_BACKWARD = torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default
Tensors = tuple[Tensor, ...]


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


def empty(tasks: int, like: tuple[int, ...], tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return an uninitialised ``[tasks, a, b, height, width]``, b last in memory; the last four sizes as given."""
    a, b, height, width = like
    return tensor.new_empty(tasks, a, height, width, b, dtype=dtype or tensor.dtype).permute(0, 1, 4, 2, 3)


def last(tensor: Tensor) -> Tensor:
    """Return ``[T, a, b, height, width]`` with b last in memory."""
    tensor = tensor.permute(0, 1, 3, 4, 2).contiguous()
    tasks, a, height, width, b = tensor.shape
    line = width * b
    # a size of one leaves strides undetermined, by which torch recognises the format
    return tensor.as_strided((tasks, a, b, height, width), (a * height * line, height * line, 1, line, b))


def parts(tensor: Tensor, tasks: int) -> list[Tensor]:
    """Return each task's part of ``[T, a, b, height, width]``, b last in memory."""
    one = last(tensor).unbind()
    return list(one) if len(one) == tasks else [one[0]] * tasks


def tasks_of(*tensors: Tensor | None) -> int:
    """Return the number of tasks of tensors with a task axis of T or 1."""
    return max(tensor.size(0) for tensor in tensors if tensor is not None)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, form: Form) -> Tensors:
        tasks, channels = tasks_of(x, weight, gamma, beta), weight.size(1)
        full = (x.size(1), channels, *form.convolved(x.shape[3:], weight.shape[3:]))
        small = (*full[:2], full[2] // form.pool, full[3] // form.pool)
        y, maps, code = empty(tasks, full, x), empty(tasks, small, x), empty(tasks, small, x, torch.uint8)
        mean, variance, rate = (x.new_empty(tasks, channels) for _ in range(3))
        kernel = Kernel(FORWARD, y, form, gamma, beta, maps, code, mean, variance, rate)
        xs, weights, ys = parts(x, tasks), parts(weight, tasks), y.unbind()

        def some(start: int, stop: int) -> None:
            for t in range(start, stop):
                ys[t].copy_(CONVOLUTION(xs[t], weights[t], None, *form.convolution))
                kernel(t, ys[t])

        for_tasks(tasks, some)
        return maps, y, mean, variance, rate, code

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        x, weight, gamma, beta, ctx.form = inputs
        _, y, mean, variance, rate, code = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, variance, rate, code)
        ctx.save_for_backward(x, weight, gamma, y, mean, rate, code)
        ctx.wanted = (x.size(0), weight.size(0), gamma.size(0), beta.size(0))

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, of_y: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        _, _, _, y, *_, code = ctx.saved_tensors
        if g is None:
            g = y.new_zeros(code.shape)
        wanted = Wanted((ctx.wanted[0] * ctx.needs_input_grad[0], *ctx.wanted[1:]))
        gradients = _Backward.apply(g, of_y, *ctx.saved_tensors, ctx.form, wanted)  # type: ignore[no-untyped-call]
        return (*with_gaps(gradients, wanted), None)

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensors, tuple[int, ...]]:
        *tensors, form = inputs
        given, tasks = folded(info.batch_size, dims[:-1], tensors)
        out = _Forward.apply(*given, form)  # type: ignore[no-untyped-call]
        return tuple(unfolded(each, info.batch_size, tasks, tasks) for each in out), (0,) * len(out)


class _Backward(torch.autograd.Function):
    # of_y is a derivative of y itself, which only a second derivative has
    @staticmethod
    def forward(
        g: Tensor, of_y: Tensor | None, x: Tensor, weight: Tensor, gamma: Tensor, y: Tensor, mean: Tensor, rate: Tensor,
        code: Tensor, form: Form, wanted: Wanted,
    ) -> Tensors:  # fmt: skip
        tasks, with_x = tasks_of(g, of_y, x, weight, gamma, y), wanted[0] > 0
        gx, gw = (empty(tasks, each.shape[1:], x) for each in (x, weight))
        ggamma, gbeta = (x.new_empty(tasks, y.size(2)) for _ in range(2))
        gradient_of_y = through_norm(tasks, g, of_y, gamma, y, mean, rate, code, form, ggamma, gbeta)
        xs, weights = parts(x, tasks), parts(weight, tasks)

        def some(start: int, stop: int) -> None:
            gradient = gradient_of_y()
            for t in range(start, stop):
                adjoint(gradient(t), xs[t], weights[t], form, gx[t] if with_x else None, gw[t])

        for_tasks(tasks, some)
        return results((gx, gw, ggamma, gbeta), wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:  # noqa: ARG004
        *tensors, ctx.form, ctx.wanted = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        vx, *others = with_gaps(cotangents, ctx.wanted)
        g, of_y, x, weight, gamma, y, *_ = ctx.saved_tensors
        asked = (True, ctx.needs_input_grad[2], vx is not None, True, True, ctx.needs_input_grad[1])
        wanted = Wanted(of.size(0) if ask else 0 for of, ask in zip((g, x, weight, gamma, y, of_y), asked, strict=True))
        gradients = _DoubleBackward.apply(vx, *others, *ctx.saved_tensors, ctx.form, wanted)  # type: ignore[no-untyped-call]
        og, ox, oweight, ogamma, oy, of_of_y = with_gaps(gradients, wanted)
        return (og, of_of_y, ox, oweight, ogamma, oy, None, None, None, None, None)

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensors, tuple[int, ...]]:
        return mapped(_Backward, info.batch_size, dims, inputs)


class _DoubleBackward(torch.autograd.Function):
    # vx is None if gx was not asked for
    @staticmethod
    def forward(
        vx: Tensor | None, vw: Tensor, a: Tensor, b: Tensor, g: Tensor, of_y: Tensor | None, x: Tensor, weight: Tensor,
        gamma: Tensor, y: Tensor, mean: Tensor, rate: Tensor, code: Tensor, form: Form, wanted: Wanted,
    ) -> Tensors:  # fmt: skip
        tasks = tasks_of(vx, vw, a, b, g, of_y, x, weight, gamma, y)
        og, ox, oweight, oy = (empty(tasks, each.shape[1:], x) for each in (g, x, weight, y))
        ogamma, of_of_y = x.new_empty(tasks, y.size(2)), torch.empty_like(oy)
        gradient_of_y = through_norm(tasks, g, of_y, gamma, y, mean, rate, code, form)
        kernel = Kernel(DOUBLE_BACKWARD, y, form, a, b, g, y, gamma, code, mean, rate, og, oy, ogamma)
        xs, weights, vws = (parts(each, tasks) for each in (x, weight, vw))
        vxs = None if vx is None else parts(vx, tasks)

        def some(start: int, stop: int) -> None:
            gradient = gradient_of_y()
            for t in range(start, stop):
                v = CONVOLUTION(xs[t], vws[t], None, *form.convolution)
                if vxs is not None:
                    v += CONVOLUTION(vxs[t], weights[t], None, *form.convolution)
                if wanted[1] or wanted[2]:
                    images = xs[t] if vxs is None else vxs[t]
                    to = (ox[t] if wanted[1] else None, oweight[t] if wanted[2] else None)
                    adjoint(gradient(t), images, vws[t], form, *to)
                kernel(t, v)
                if wanted[5]:
                    of_of_y[t].copy_(v)

        for_tasks(tasks, some)
        return results((og, ox, oweight, ogamma, oy, of_of_y), wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:  # noqa: ARG004
        *tensors, ctx.form, ctx.wanted = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        return (*third_derivatives(ctx.saved_tensors, with_gaps(cotangents, ctx.wanted), ctx.form), None, None)

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensors, tuple[int, ...]]:
        return mapped(_DoubleBackward, info.batch_size, dims, inputs)


def mapped(function: Any, size: int, dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Tensors, tuple[int, ...]]:
    """Return what ``vmap`` of an autograd function returns, whose last argument is the tasks of each result."""
    *tensors, form, wanted = inputs
    given, tasks = folded(size, dims[: len(tensors)], tensors)
    out = function.apply(*given, form, Wanted(size * tasks if n else 0 for n in wanted))
    found = tuple(unfolded(each, size, tasks, n) for each, n in zip(out, filter(None, wanted), strict=True))
    return found, (0,) * len(found)


def results(tensors: Tensors, wanted: Wanted) -> Tensors:
    """Return the wanted tensors, each of T or of 1 task, which sums what all tasks share."""
    return tuple(reduced(tensor, n) for tensor, n in zip(tensors, wanted, strict=True) if n)


def with_gaps(tensors: Sequence[Tensor], wanted: Wanted) -> list[Tensor | None]:
    """Return ``results`` with None in the place of each tensor that was not wanted."""
    given = iter(tensors)
    return [next(given) if n else None for n in wanted]


def adjoint(gy: Tensor, x: Tensor, weight: Tensor, form: Form, of_x: Tensor | None, of_weight: Tensor | None) -> None:
    """Write the derivatives of a convolution with respect to its images and its weights where they are asked for."""
    asked = [of_x is not None, of_weight is not None, False]
    found = CONVOLUTION_BACKWARD(gy, x, weight, None, *form.convolution, asked)
    for target, value in zip((of_x, of_weight), found[:2], strict=True):
        if target is not None:
            target.copy_(value)


def through_norm(
    tasks: int, g: Tensor, of_y: Tensor | None, gamma: Tensor, y: Tensor, mean: Tensor, rate: Tensor, code: Tensor,
    form: Form, *sums: Tensor,
) -> Callable[[], Callable[[int], Tensor]]:  # fmt: skip
    """Return a function that makes one, for one thread, from a task to its derivative of y.

    Args:
        tasks: T.
        g: derivative of the maps.
        of_y: derivative of y on other ways.
        gamma: the scale.
        y: outputs of the convolution.
        mean: their mean.
        rate: one over their standard deviation.
        code: the pixels that were maxima.
        form: the settings of the layers.
        sums: two tensors ``[T, outputs]`` for the derivatives of gamma and beta; not kept if not given.
    """
    more = None if of_y is None else parts(of_y, tasks)
    sums = sums or tuple(y.new_empty(tasks, y.size(2)) for _ in range(2))
    kernel = Kernel(BACKWARD, y, form, g, y, gamma, code, mean, rate, *sums)

    def one_thread() -> Callable[[int], Tensor]:
        space = empty(1, y.shape[1:], y)[0]

        def gradient(t: int) -> Tensor:
            kernel(t, space)
            return space if more is None else space.add_(more[t])

        return gradient

    return one_thread


_functions: tuple[Any, ...] = (_Forward, _Backward, _DoubleBackward)
for _function in _functions:
    _function.forward.__signature__ = signature(_function.forward)  # which torch asks for at each call
