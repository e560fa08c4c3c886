"""Stop training at a non-finite loss or gradient, before it changes any weight."""

import math
from collections.abc import Sequence
from functools import cache
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
    """The record of a training batch, kept until the optimiser step that uses it.

    Attributes:
        tasks: ``[B]`` int64, the tasks' indices in the training stream.
        value: the meta-loss, 0-d.
        losses: ``[B]``, the loss of each task.
        statistics: new running statistics by buffer name, averaged over the tasks.
    """

    tasks: Tensor
    value: Tensor
    losses: Tensor
    statistics: Params


def has_finite_gradient(optimizer: torch.optim.Optimizer, values: Sequence[Tensor] = ()) -> bool:
    """Return whether all gradients that an optimiser is about to use are finite.

    Args:
        optimizer: the optimiser.
        values: the losses that the gradients come from, which must be finite as well.
    """
    # the kernel below takes tensors of one dtype at a time
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_type.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for value in values:
        by_type.setdefault(value.dtype, []).append(value)
    if not by_type:
        return True
    device = next(iter(by_type.values()))[0].device
    found, unchanged = torch.zeros(1, dtype=torch.float32, device=device), one(device)
    for gradients in by_type.values():
        # GradScaler's own kernel checks all gradients in one pass, in a tenth of the time of any alternative. It also
        # multiplies them by the inverse scale, which is 1 here.
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, unchanged)
    return not found.item()


@cache
def one(device: torch.device) -> Tensor:
    """Return 1.0 on a device, ``[1]`` float32, always the same tensor."""
    return torch.ones(1, dtype=torch.float32, device=device)


def stop_if_not_finite(batches: Sequence[Batch], step: int, scaler: Any | None) -> None:
    """Raise an error that says where a non-finite gradient comes from.

    All ranks must call it together; they do, since DDP gives all of them the same gradient.

    Args:
        batches: the batches of this rank's step.
        step: number of steps taken before this one.
        scaler: the ``GradScaler`` of float16 training, which skips a step whose gradient overflows.

    Raises:
        FloatingPointError: with step and tasks. Not raised if all losses are finite and the scaler can still lower its
            scale.
    """
    # the task at fault may belong to another rank, and every rank's message should name it
    ranks = gather_objects([_describe(batch) for batch in batches])
    found = [batch for rank in ranks for batch in rank]
    value = next((value for value, _, _ in found if not math.isfinite(value)), None)
    # an overflow of the scaled gradient is routine in float16, unless the scale has fallen below 1
    if value is None and scaler is not None and scaler.get_scale() >= 1:
        return
    # name the tasks with a non-finite loss, or all tasks of the step if only the gradient is not finite
    tasks = [task for _, _, bad in found for task in bad] or [task for _, tasks, _ in found for task in tasks]
    what = "meta-gradient is not finite" if value is None else f"meta-loss is {value}"
    raise FloatingPointError(f"the {what} at step {step} (training episodes {spans(tasks)}): {ADVICE}")


def spans(numbers: Sequence[int]) -> str:
    """Return integers as a compact list of ranges: ``3, 5-8, 11``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}" if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _describe(batch: Batch) -> tuple[float, list[int], list[int]]:
    """Return (the meta-loss, all tasks, the tasks with a non-finite loss)."""
    tasks = batch.tasks.tolist()
    finite = batch.losses.isfinite().tolist()
    return batch.value.item(), tasks, [task for task, good in zip(tasks, finite, strict=True) if not good]
