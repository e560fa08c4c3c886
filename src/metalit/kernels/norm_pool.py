"""Calls of ``norm_pool.cpp``."""

import ctypes
from typing import Any

from torch import Tensor

from metalit.kernels.form import Form
from metalit.kernels.library import library

FORWARD, BACKWARD, DOUBLE_BACKWARD = range(3)  # operations of the source


class Kernel:
    """One operation with its tensors; called for a task and the one tensor that belongs to the calling thread.

    Args:
        operation: ``FORWARD``, ``BACKWARD`` or ``DOUBLE_BACKWARD``.
        y: outputs of the convolution, ``[T, n, channels, height, width]``.
        form: slope, epsilon and pooling.
        tensors: the others in the order of ``run`` in the source, with a task axis of T or 1.
    """

    def __init__(self, operation: int, y: Tensor, form: Form, *tensors: Tensor) -> None:
        # kept, since the library is given addresses only
        self.tensors = [in_order(tensor) for tensor in tensors]
        count = len(tensors)
        begin = (ctypes.c_void_p * count)(*[tensor.data_ptr() for tensor in self.tensors])
        steps = [tensor.stride(0) * tensor.element_size() if tensor.size(0) > 1 else 0 for tensor in self.tensors]
        sizes = [ctypes.c_int64(y.size(i)) for i in (1, 3, 4, 2)]
        settings = ctypes.c_int64(form.pool), ctypes.c_double(form.slope), ctypes.c_double(form.eps)
        self.function: Any = library().norm_pool  # type: ignore[union-attr]
        self.arguments = (operation, y.element_size(), begin, (ctypes.c_int64 * count)(*steps), *sizes, *settings)

    def __call__(self, task: int, own: Tensor) -> None:
        """Run the operation for a task; ``own`` is ``[n, channels, height, width]``, channels last in memory."""
        self.function(*self.arguments, ctypes.c_int64(task), ctypes.c_void_p(own.data_ptr()))


def in_order(tensor: Tensor) -> Tensor:
    """Return maps with the channels last in memory, other tensors contiguous."""
    if tensor.dim() < 5:
        return tensor.contiguous()
    return tensor.permute(0, 1, 3, 4, 2).contiguous()
