"""Calls of ``block.cpp``, and tensors in the order of memory that it has them in."""

import ctypes
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from metalit.kernels.form import Form
from metalit.kernels.library import library

FORWARD, BACKWARD, DOUBLE_BACKWARD = range(3)  # operations of the source


class Sizes(ctypes.Structure):
    """``Sizes`` of the source."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("images", "inputs", "outputs", "pool")),
        *((axis, ctypes.c_int64 * 6) for axis in ("rows", "columns")),
        *((name, ctypes.c_double) for name in ("slope", "eps")),
    )


def run(operation: int, tasks: int, x: Tensor, weight: Tensor, form: Form, tensors: Sequence[Tensor | None]) -> None:
    """Run an operation for all tasks, shared out over threads.

    Args:
        operation: ``FORWARD``, ``BACKWARD`` or ``DOUBLE_BACKWARD``.
        tasks: T.
        x: the images, for their shape.
        weight: the weights, for theirs.
        form: the settings of the layers.
        tensors: those that the source lists, each with a task axis of T or 1; None if it is missing or not wanted.
    """
    sizes = sizes_of(tuple(x.shape[1:]), tuple(weight.shape[1:]), form)
    count = len(tensors)
    begin = (ctypes.c_void_p * count)(*[None if each is None else each.data_ptr() for each in tensors])
    step = (ctypes.c_int64 * count)(*map(step_of, tensors))
    numbers = ctypes.c_int64(tasks), ctypes.c_int64(torch.get_num_threads())
    library().conv_block(operation, x.element_size(), begin, step, ctypes.byref(sizes), *numbers)  # type: ignore[union-attr]


def step_of(tensor: Tensor | None) -> int:
    """Return the bytes between two tasks, 0 if all tasks share the tensor."""
    return 0 if tensor is None or tensor.size(0) == 1 else tensor.stride(0) * tensor.element_size()


@cache
def sizes_of(x: tuple[int, ...], weight: tuple[int, ...], form: Form) -> Sizes:
    """Return the sizes of a block of images ``[n, inputs, height, width]``, ``[outputs, inputs, rows, columns]``."""
    convolved = form.convolved(x[2:], weight[2:])
    sides = zip(x[2:], convolved, weight[2:], form.stride, form.padding, form.dilation, strict=True)
    rows, columns = ((ctypes.c_int64 * 6)(*each) for each in sides)
    return Sizes(x[0], x[1], weight[0], form.pool, rows, columns, form.slope, form.eps)


def empty_maps(tasks: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return uninitialised maps ``[T, n, channels, height, width]``, of a shape without tasks, in the order below."""
    n, channels, height, width = shape
    return like.new_empty(tasks, n, height, width, channels).permute(0, 1, 4, 2, 3)


def empty_weights(tasks: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return uninitialised weights ``[T, outputs, inputs, rows, columns]`` in the order below."""
    outputs, inputs, rows, columns = shape
    return like.new_empty(tasks, rows, columns, inputs, outputs).permute(0, 4, 3, 1, 2)


def maps_in_order(tensor: Tensor) -> Tensor:
    """Return maps ``[T, n, channels, height, width]`` as the source has them: the channels last."""
    return tensor.permute(0, 1, 3, 4, 2).contiguous()


def weights_in_order(tensor: Tensor) -> Tensor:
    """Return weights ``[T, outputs, inputs, rows, columns]`` as the source has them: outputs last, after inputs."""
    return tensor.permute(0, 3, 4, 2, 1).contiguous()
