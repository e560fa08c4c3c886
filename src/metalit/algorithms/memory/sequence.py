"""An episode as a sequence: the support set in random order, then each query as a last step of its own.

The queries are *branches*: steps that could each come next. They know the sequence and themselves, not one another, so
all queries are read at once.
"""

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metalit.episode import Labelled
from metalit.functional.examples import selected
from metalit.tasks.random_bits import MASK32, hash32
from metalit.tasks.task_context import uniform_like


def shuffled(examples: Labelled) -> Labelled:
    """Return examples in random order, for episodes hold them sorted by class.

    The order is drawn by the task's key and by what the examples are, not by how they stood before. So in evaluation,
    where all tasks have one key, each still has an order of its own, and always the same.

    Args:
        examples: ``x [n, ...]`` and ``y [n, ...]``.
    """
    leaves = [leaf.detach().float().flatten(1) for leaf in tree_leaves(examples.x)]
    numbers = (torch.cat(leaves, dim=1) * 2**24).to(torch.int64) & MASK32
    factors = hash32(torch.arange(numbers.shape[1], device=numbers.device) + 1)
    seed = (uniform_like(torch.zeros((), device=numbers.device)) * 2**32).to(torch.int64)
    order = hash32(((numbers * factors).sum(dim=1) & MASK32) ^ seed).argsort(stable=True)
    return selected(examples, order)  # type: ignore[no-any-return]


def label_code(y: Tensor, ways: int | None, dtype: torch.dtype) -> Tensor:
    """Return what a sequence says of labels: one-hot ``[n, ways]``, or without ways the values ``[n, outputs]``."""
    if ways is None:
        return y.to(dtype)
    return (y.unsqueeze(-1) == torch.arange(ways, device=y.device)).to(dtype)


def accuracy_by_presentation(predictions: Tensor, labels: Tensor, presentations: int) -> list[Tensor]:
    """Return how often a class was recognised when it was shown for the first, second, ... time.

    Args:
        predictions: ``[T, N]`` logits, each made before the label of its step was told.
        labels: ``[T]`` int64.
        presentations: how many are looked at.

    Returns:
        0-d numbers in [0, 1]; nan where no class was shown so often.
    """
    before = (labels.unsqueeze(0) == labels.unsqueeze(1)).tril(diagonal=-1).sum(dim=1)
    correct = predictions.argmax(dim=-1) == labels
    return [(correct & (before == k)).sum() / (before == k).sum() for k in range(presentations)]
