"""Communication between the ranks of one training; with a single process nothing is sent."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map

from metalit.errors import UserError
from metalit.tasks.parameters import Params


def world_size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def leave_ranks() -> None:
    """End the communication with the other ranks, which must have no more to say either.

    Left to the end of the interpreter, a thread of gloo that still holds a tensor may abort a process whose work is
    done.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def refuse_shared_tasks(index: Tensor) -> None:
    """Refuse ranks that train on the same tasks, where additional ranks would add no information.

    Args:
        index: ``[B]``, the episode indices of this rank's batch; all ranks call this together.

    Raises:
        UserError: an episode is on two ranks.
    """
    if world_size() == 1:
        return
    seen: dict[int, int] = {}  # the first rank that has each episode
    for where, numbers in enumerate(gather_objects(index.tolist())):
        for number in numbers:
            if seen.setdefault(number, where) != where:
                raise UserError(
                    f"ranks {seen[number]} and {where} both train on episode {number}: divide the batches among the "
                    "ranks, with metalit.data.RankShare as the loader's sampler and use_distributed_sampler=False"
                )


def gather_tasks(tree: Any) -> Any:
    """Return a pytree with the tasks of all ranks, in the order of the ranks.

    Args:
        tree: tensors with the task axis first; every rank must have the same number of tasks.
    """

    def gather(leaf: Tensor) -> Tensor:
        # one tensor for all ranks: all_gather_into_tensor needs equal, contiguous parts
        everyone = leaf.new_empty(world_size() * len(leaf), *leaf.shape[1:])
        dist.all_gather_into_tensor(everyone, leaf.contiguous())
        return everyone

    return tree_map(gather, tree)


def padded_to_longest(values: Tensor) -> Tensor:
    """Return values ``[B, Q, ...]`` with zeros appended up to the largest Q of all ranks, which call this together."""
    # the compiler cannot trace a size that is read off a tensor; what it compiles has tasks of one size
    if torch.compiler.is_compiling():
        return values
    longest = torch.tensor(values.shape[1], device=values.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    missing = int(longest) - values.shape[1]
    return torch.cat([values, values.new_zeros(len(values), missing, *values.shape[2:])], dim=1) if missing else values


def own_tasks(tree: Any) -> Any:
    """Return this rank's tasks of a pytree that holds those of all ranks, as ``gather_tasks`` returns it."""
    return tree_map(lambda leaf: leaf.chunk(world_size())[dist.get_rank()], tree)


def gather_objects(value: Any, group: Any | None = None) -> list[Any]:
    """Return the objects of all ranks of a group, of any type that can be pickled; slow, so for rare use."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(values, value, group=group)
    return values


def mean_over_ranks(tensors: Params) -> Params:
    """Return the mean of each tensor over the ranks."""
    if world_size() == 1 or not tensors:
        return tensors
    # one message for all tensors: this runs within training steps
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()]) / world_size()
    dist.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors.values()])
    return {name: part.view_as(tensors[name]) for name, part in zip(tensors, parts, strict=True)}
