"""What the processes of one training, its ranks, tell one another; nothing happens where there is only one."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map

from metalit.errors import UserError
from metalit.tasks.parameters import Params


def world_size() -> int:
    """Return how many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return which of the ranks this process is."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def refuse_shared_tasks(index: Tensor) -> None:
    """Refuse ranks that train on the same tasks: more of them would then teach nothing more.

    Args:
        index: ``[B]``, the episodes' numbers of this rank's batch; all ranks call this together.

    Raises:
        ValueError: a number is on two ranks.
    """
    if world_size() == 1:
        return
    seen: dict[int, int] = {}
    for where, numbers in enumerate(gather_objects(index.tolist())):
        for number in numbers:
            if seen.setdefault(number, where) != where:
                raise UserError(
                    f"ranks {seen[number]} and {where} both train on episode {number}: divide the batches among the "
                    "ranks, with metalit.data.RankShare as the loader's sampler and use_distributed_sampler=False"
                )


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
