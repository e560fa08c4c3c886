"""The mean embedding of the training classes, for a network that is not trained and so never sees them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from metalit.errors import UserError
from metalit.functional.examples import to_unit_interval

AT_ONCE = 256  # examples embedded at once


@runtime_checkable
class TrainingStore(Protocol):
    """A data module that holds all examples of a split in a store.

    Attributes:
        stores: each ``ClassStore`` that has been needed so far, by split.
    """

    stores: Mapping[Any, Any]

    def episodes(self, split: Any, first: int = 0, count: int = 1) -> Any:
        """Return episodes of a split, whose store is there afterwards."""
        ...


@torch.no_grad()
def base_mean(embed: Callable[[Any], Tensor], data: object, device: torch.device) -> Tensor:
    """Return the mean embedding of all examples of the training split, ``[D]``.

    Args:
        embed: maps examples ``[n, ...]`` to embeddings ``[n, D]``.
        data: the data module.
        device: of the network.

    Raises:
        UserError: the data module has no store.
    """
    if not isinstance(data, TrainingStore):
        raise UserError(
            f"the step centre subtracts the mean over the training classes, but {type(data).__name__} has no store of "
            "them: leave the step out, or train the network, which observes the mean"
        )
    data.episodes("train")
    store = data.stores["train"]
    total, count = torch.zeros((), device=device), int(store.class_sizes.sum())
    for rows in torch.split(torch.arange(count), AT_ONCE):
        examples = tree_map(lambda leaf: leaf.to(device), store.take(rows))
        total = total + embed(to_unit_interval(examples)).float().sum(dim=0)
    return total / count
