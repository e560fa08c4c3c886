"""The third derivative of a block, composed of torch's functions: rare, so right rather than fast."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vjp

from metalit.kernels.form import Form
from metalit.tasks.checkpointing import checkpointed

Tensors = tuple[Tensor, ...]


def third_derivatives(saved: tuple[Any, ...], cotangents: list[Tensor | None], form: Form) -> list[Tensor | None]:
    """Return the derivatives of the derivatives of a block's backward pass.

    Args:
        saved: the tensors given to the derivative of the backward pass, in its order; ``vx`` and ``of_y`` may be None.
        cotangents: derivatives of its results, None for those that were not asked for.
        form: the settings of the layers.
    """
    vx, vw, a, b, g, of_y, x, weight, gamma, y, _, _, code = saved
    given = [vx, vw, a, b, g, of_y, x, weight, gamma, y]
    asked = [i for i, each in enumerate(cotangents) if each is not None]
    at = [i for i, each in enumerate(given) if each is not None]

    def pulled_back(tensors: list[Tensor], code: Tensor, cotangents: list[Tensor]) -> Tensors:
        def derivatives(*tensors: Tensor) -> Tensors:
            full: list[Any] = [None] * len(given)
            for i, tensor in zip(at, tensors, strict=True):
                full[i] = tensor
            found = derivatives_of_backward(full, code, form)
            return tuple(found[i] for i in asked)

        return vjp(derivatives, *tensors)[1](tuple(cotangents))  # type: ignore[no-any-return]

    # a function of its own to torch, which cannot take a vjp in a backward pass that itself runs inside vmap
    found = checkpointed(pulled_back)([given[i] for i in at], code, [cotangents[i] for i in asked])
    result: list[Tensor | None] = [None] * len(saved)
    for i, each in zip(at, found, strict=True):
        result[i] = each
    return result


def derivatives_of_backward(given: list[Any], code: Tensor, form: Form) -> Tensors:
    """Return the derivatives of (gx, gw, ggamma, gbeta) with respect to g, x, weight, gamma, y and, if given, of_y."""
    vx, vw, a, b, g, of_y, x, weight, gamma, y = given

    def backward(g: Tensor, x: Tensor, weight: Tensor, gamma: Tensor, y: Tensor, *of_y: Tensor) -> Tensors:
        return block_backward(g, of_y[0] if of_y else None, x, weight, gamma, y, code, form)

    arguments = (g, x, weight, gamma, y, *([] if of_y is None else [of_y]))
    results, pull_back, *_ = vjp(backward, *arguments)
    return pull_back((torch.zeros_like(results[0]) if vx is None else vx, vw, a, b))  # type: ignore[no-any-return]


def block_backward(
    g: Tensor, of_y: Tensor | None, x: Tensor, weight: Tensor, gamma: Tensor, y: Tensor, code: Tensor, form: Form
) -> Tensors:
    """Return (gx, gw, ggamma, gbeta) of a block, differentiable in all floating-point arguments."""
    images = (1, 3, 4)
    h = y - y.mean(images, keepdim=True)
    h = h / (h.square().mean(images, keepdim=True) + form.eps).sqrt()
    at_maxima = unpooled(torch.where(code >= 4, g * form.slope, g), code, y.shape[3:], form)
    gbeta, ggamma = at_maxima.sum(images), (at_maxima * h).sum(images)
    rate = (y.var(images, correction=0) + form.eps).rsqrt()
    scale, count = gamma * rate, y[0, :, 0].numel()
    wide = (slice(None), None, slice(None), None, None)
    gy = scale[wide] * (at_maxima - gbeta[wide] / count - h * ggamma[wide] / count)
    gx, gw = adjoints(gy if of_y is None else gy + of_y, x, weight, form)
    return tuple(
        part.sum(0, keepdim=True) if len(of) == 1 else part
        for part, of in ((gx, x), (gw, weight), (ggamma, gamma), (gbeta, gamma))
    )


def unpooled(g: Tensor, code: Tensor, sides: tuple[int, ...], form: Form) -> Tensor:
    """Return ``[T, n, channels, *sides]`` with each value where its window's maximum was, else zero."""
    if form.pool == 1:
        return g
    rows, columns = g.shape[3:]
    windows = torch.stack([torch.where(code % 4 == i, g, 0) for i in range(4)], dim=-1)
    pixels = windows.reshape(*g.shape, 2, 2).permute(0, 1, 2, 3, 5, 4, 6)
    full = pixels.reshape(*g.shape[:3], 2 * rows, 2 * columns)
    return F.pad(full, (0, sides[1] - 2 * columns, 0, sides[0] - 2 * rows))


def adjoints(gy: Tensor, x: Tensor, weight: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """Return the derivatives of each task's convolution with respect to its images and its weights."""
    tasks = len(gy)
    x, weight = x.expand(tasks, *x.shape[1:]), weight.expand(tasks, *weight.shape[1:])
    backward = torch.ops.aten.convolution_backward.default
    pairs = [backward(gy[t], x[t], weight[t], None, *form.convolution, [True, True, False]) for t in range(tasks)]
    return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])
