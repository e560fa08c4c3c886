"""What the processes of one training, its ranks, tell one another; nothing happens where there is only one."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map

from metalit.functional.parameters import Params


def world_size() -> int:
    """Return how many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_tasks(tree: Any) -> Any:
    """Return a pytree with the tasks of all ranks, rank after rank; each rank must have equally many.

    Args:
        tree: tensors with the task axis first.
    """

    def gather(leaf: Tensor) -> Tensor:
        everyone = leaf.new_empty(world_size() * len(leaf), *leaf.shape[1:])
        dist.all_gather_into_tensor(everyone, leaf.contiguous())
        return everyone

    return tree_map(gather, tree)


def own_tasks(tree: Any) -> Any:
    """Return what this rank gave to ``gather_tasks``."""
    return tree_map(lambda leaf: leaf.chunk(world_size())[dist.get_rank()], tree)


def gather_objects(value: Any) -> list[Any]:
    """Return what each rank gives, which may be anything; slow, for rare occasions."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def mean_over_ranks(tensors: Params) -> Params:
    """Return the mean over the ranks of each tensor, by one message for all."""
    if world_size() == 1 or not tensors:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()]) / world_size()
    dist.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors.values()])
    return {name: part.view_as(tensors[name]) for name, part in zip(tensors, parts, strict=True)}
