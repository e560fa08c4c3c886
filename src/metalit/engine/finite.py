"""Stopping at a loss or a gradient that is not finite, before it changes any weight."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalit.ranks import gather_objects
from metalit.tasks.parameters import Params

ADVICE = (
    "lower the inner or the meta learning rate, or clip gradients (--trainer.gradient_clip_val); the weights are those "
    "before this step"
)


class Batch(NamedTuple):
    """What a batch leaves behind until its step is taken.

    Attributes:
        tasks: ``[B]`` int64, their numbers in the training stream.
        value: 0-d, the meta-loss.
        losses: ``[B]``, each task's.
        statistics: new running statistics, the mean over the tasks.
    """

    tasks: Tensor
    value: Tensor
    losses: Tensor
    statistics: Params


def has_finite_gradient(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all gradients that an optimiser is about to use are finite."""
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_type.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    if not by_type:
        return True
    device = next(iter(by_type.values()))[0].device
    found, unchanged = (make(1, dtype=torch.float32, device=device) for make in (torch.zeros, torch.ones))
    for gradients in by_type.values():
        # GradScaler's own kernel: one pass over everything, a tenth of the time of any other way
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, unchanged)
    return not found.item()


def stop_if_not_finite(batches: Sequence[Batch], step: int, scaler: Any | None) -> None:
    """Say why a gradient is not finite; called by all ranks, since DDP gives all of them the same gradient.

    Args:
        batches: what this rank's step was made of.
        step: how many steps were taken before it.
        scaler: the ``GradScaler`` of training in float16, which skips a step whose gradient overflows.

    Raises:
        FloatingPointError: with step and tasks; not if all losses are finite and the scaler can still help.
    """
    ranks = gather_objects([_describe(batch) for batch in batches])
    found = [batch for rank in ranks for batch in rank]
    value = next((value for value, _, _ in found if not math.isfinite(value)), None)
    if value is None and scaler is not None and scaler.get_scale() >= 1:
        return
    tasks = [task for _, _, bad in found for task in bad] or [task for _, tasks, _ in found for task in tasks]
    what = "meta-gradient is not finite" if value is None else f"meta-loss is {value}"
    raise FloatingPointError(f"the {what} at step {step} (training episodes {spans(tasks)}): {ADVICE}")


def spans(numbers: Sequence[int]) -> str:
    """Write numbers in short: ``3, 5-8, 11``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}" if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _describe(batch: Batch) -> tuple[float, list[int], list[int]]:
    """Return (meta-loss, all tasks, tasks whose own loss is not finite)."""
    tasks = batch.tasks.tolist()
    finite = batch.losses.isfinite().tolist()
    return batch.value.item(), tasks, [task for task, good in zip(tasks, finite, strict=True) if not good]
