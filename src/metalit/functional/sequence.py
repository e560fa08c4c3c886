"""An episode as a sequence: the support set in random order, then each query as a last step of its own.

Written as rows: the first ``steps`` rows are the sequence, and each further row is a *branch*, another step that could
come next. Branches know the sequence and themselves, not one another, so all queries are read at once.
"""

import torch
from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.random_bits import MASK32, hash32
from metalit.functional.task_context import uniform_like


def shuffled(examples: Labelled) -> Labelled:
    """Return examples in random order, for episodes hold them sorted by class.

    The order is drawn by the task's key and by what the examples are, not by how they stood before. So in evaluation,
    where all tasks have one key, each still has an order of its own, and always the same.

    Args:
        examples: ``x [n, ...]`` and ``y [n, ...]``.
    """
    numbers = (examples.x.detach().float().flatten(1) * 2**24).to(torch.int64) & MASK32
    factors = hash32(torch.arange(numbers.shape[1], device=numbers.device) + 1)
    seed = (uniform_like(torch.zeros((), device=numbers.device)) * 2**32).to(torch.int64)
    order = hash32(((numbers * factors).sum(dim=1) & MASK32) ^ seed).argsort(stable=True)
    return Labelled(examples.x[order], examples.y[order])


def label_code(y: Tensor, ways: int | None, dtype: torch.dtype) -> Tensor:
    """Return what a sequence says of labels: one-hot ``[n, ways]``, or without ways the values ``[n, outputs]``."""
    if ways is None:
        return y.to(dtype)
    return (y.unsqueeze(-1) == torch.arange(ways, device=y.device)).to(dtype)


def told_at_once(x: Tensor, codes: Tensor) -> Tensor:
    """Put inputs beside their own labels, and zeros where there is no label.

    Args:
        x: ``[S + Q, D]``, S steps and Q branches.
        codes: ``[S, W]``, of the steps alone.

    Returns:
        ``[S + Q, D + W]``.
    """
    unknown = codes.new_zeros(len(x) - len(codes), codes.shape[-1])
    return torch.cat([x, torch.cat([codes, unknown])], dim=-1)


def told_one_step_late(x: Tensor, codes: Tensor) -> Tensor:
    """Put inputs beside the label of the step before: zeros at the first step, that of the last step at branches.

    Args:
        x: ``[S + Q, D]``, S steps and Q branches.
        codes: ``[S, W]``, of the steps.

    Returns:
        ``[S + Q, D + W]``.
    """
    return torch.cat([x, delayed(codes, len(x) - len(codes))], dim=-1)


def delayed(steps: Tensor, branches: int, delay: int = 1) -> Tensor:
    """Return what stands ``delay`` steps before each row, zeros before the first step.

    Args:
        steps: ``[T, C]``, the sequence.
        branches: how many rows follow it as alternative next steps.
        delay: >= 1.

    Returns:
        ``[T + branches, C]``.
    """
    padded = torch.cat([steps.new_zeros(delay, steps.shape[-1]), steps])
    return torch.cat([padded[: len(steps)], padded[len(steps)].expand(branches, -1)])


def visible(steps: int, branches: int, device: torch.device | None = None) -> Tensor:
    """Return which rows each row may see, ``[steps + branches, steps + branches]`` bool: the past and itself."""
    rows = torch.arange(steps + branches, device=device)
    past = rows.unsqueeze(0) < rows.unsqueeze(1).clamp(max=steps)
    return past | (rows.unsqueeze(0) == rows.unsqueeze(1))


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
