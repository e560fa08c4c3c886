"""An episode as a sequence: the support set in random order, then each query as a separate last step.

The queries are *branches*: alternative next steps. Each depends on the sequence and itself, not on other queries, so
all of them are read in one call.
"""

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metalit.episode import Labelled
from metalit.functional.examples import selected
from metalit.tasks.random_bits import MASK32, hash32
from metalit.tasks.task_context import uniform_like


def shuffled(examples: Labelled) -> Labelled:
    """Return examples in random order; in an episode they are sorted by class.

    The order depends on the task's key and the content of the examples, not on their previous order. In evaluation,
    where all tasks share one key, each task therefore still has its own order, always the same.

    Args:
        examples: ``x [n, ...]`` and ``y [n, ...]``.
    """
    # sort by a hash of each example's values, in fixed point, combined with a seed from the task's key
    leaves = [leaf.detach().float().flatten(1) for leaf in tree_leaves(examples.x)]
    numbers = (torch.cat(leaves, dim=1) * 2**24).to(torch.int64) & MASK32
    # a different factor for each position: a plain sum would be the same for permuted values
    factors = hash32(torch.arange(numbers.shape[1], device=numbers.device) + 1)
    seed = (uniform_like(torch.zeros((), device=numbers.device)) * 2**32).to(torch.int64)
    order = hash32(((numbers * factors).sum(dim=1) & MASK32) ^ seed).argsort(stable=True)
    return selected(examples, order)  # type: ignore[no-any-return]


def label_encoding(y: Tensor, ways: int | None, dtype: torch.dtype) -> Tensor:
    """Return encoded labels: one-hot ``[n, ways]``, or without ``ways`` the values ``[n, outputs]``."""
    if ways is None:
        return y.to(dtype)
    return (y.unsqueeze(-1) == torch.arange(ways, device=y.device)).to(dtype)


def accuracy_by_presentation(predictions: Tensor, labels: Tensor, presentations: int) -> list[Tensor]:
    """Return the accuracy at the first, second, ... presentation of a class.

    Args:
        predictions: logits ``[T, N]``, each made before the label of its step is read.
        labels: ``[T]`` int64.
        presentations: number of presentations to evaluate.

    Returns:
        0-d accuracies in [0, 1]; NaN if no class was presented that often.
    """
    # how often the class of each step was presented before it
    before = (labels.unsqueeze(0) == labels.unsqueeze(1)).tril(diagonal=-1).sum(dim=1)
    correct = predictions.argmax(dim=-1) == labels
    return [(correct & (before == k)).sum() / (before == k).sum() for k in range(presentations)]
