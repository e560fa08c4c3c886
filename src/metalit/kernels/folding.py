"""The axis of tasks: every operation of this room takes tensors whose first axis is the task's, of size T or 1.

Size 1 stands for a tensor that all tasks share. ``vmap`` adds an axis of its own, which is folded into that one.
"""

from collections.abc import Sequence

from torch import Tensor


def folded(size: int, dims: Sequence[int | None], tensors: Sequence[Tensor | None]) -> tuple[list[Tensor | None], int]:
    """Return the tensors with the axis of ``vmap`` folded into the task axis, and the number of tasks T before.

    Args:
        size: the length of the axis of ``vmap``.
        dims: the place of that axis in each tensor, None in one that has none.
        tensors: the tensors, each with a task axis of T or 1, or None.
    """
    given = list(zip(tensors, dims, strict=True))
    tasks = max(tensor.size(1 if dim == 0 else 0) for tensor, dim in given if tensor is not None)
    return [_folded(tensor, dim, size, tasks) for tensor, dim in given], tasks


def _folded(tensor: Tensor | None, dim: int | None, size: int, tasks: int) -> Tensor | None:
    if tensor is None or (dim is None and tensor.size(0) == 1):
        return tensor  # shared still
    tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return tensor.expand(size, tasks, *tensor.shape[2:]).flatten(0, 1)


def unfolded(tensor: Tensor, size: int, tasks: int, wanted: int) -> Tensor:
    """Return a result of folded tensors with the axis of ``vmap`` first, and ``wanted`` tasks after it (T or 1)."""
    tensor = tensor.reshape(size, tasks, *tensor.shape[1:])
    return tensor if wanted == tasks else summed(tensor, 1)


def reduced(tensor: Tensor, wanted: int) -> Tensor:
    """Return the sum over the task axis if one task is wanted, the derivative of a tensor that all tasks share."""
    return tensor if wanted == tensor.size(0) else summed(tensor, 0)


def summed(tensor: Tensor, axis: int) -> Tensor:
    """Return the sum over an axis, which is of size 1 then."""
    # the axes after it in their order of memory: torch takes 40 times as long to add weights that lie in another one
    order = [*range(axis + 1), *sorted(range(axis + 1, tensor.dim()), key=tensor.stride, reverse=True)]
    total = tensor.permute(order).sum(axis, keepdim=True)
    return total.permute([order.index(i) for i in range(tensor.dim())])
