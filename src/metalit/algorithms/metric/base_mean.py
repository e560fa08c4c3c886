"""The mean embedding of the training classes, for a network that is not trained and so never sees them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metalit.algorithms.before_episodes import TrainingStore, training_inputs
from metalit.errors import UserError
from metalit.functional.examples import count


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
    total, examples = torch.zeros((), device=device), 0
    for x in training_inputs(data, device):
        total = total + embed(x).float().sum(dim=0)
        examples += count(x)
    return total / examples
