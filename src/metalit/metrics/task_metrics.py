"""Metrics of one task's predictions, computed for a batch of tasks, which may differ in size.

Each function maps predictions ``[B, Q, ...]``, targets ``[B, Q, ...]`` and a mask ``[B, Q]`` (True where there is an
example; None for everywhere) to one value per task, ``[B]``. NaN means that the metric is *undefined* for the task,
which is then left out of means: a correlation with constant targets, for instance. Which case is undefined, each
function says.

Legend: P examples of class 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from metalit.errors import UserError
from metalit.tasks.precision import at_least_float32

TaskMetric = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def mse(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the squared error, averaged over examples and outputs; always defined.

    Args:
        predictions: ``[B, Q, outputs]``.
        targets: ``[B, Q, outputs]``.
        mask: ``[B, Q]`` bool, or None.
    """
    errors = at_least_float32(predictions) - targets
    return _mean(errors.square().flatten(2).mean(dim=2), mask)


def rmse(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the square root of ``mse``, in the units of the targets; always defined."""
    return mse(predictions, targets, mask).sqrt()


def pearson(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return Pearson's correlation in [-1, 1], the mean over outputs.

    Undefined if the targets or the predictions of an output are all equal, as those of a single example are.

    Args:
        predictions: ``[B, Q, outputs]``.
        targets: ``[B, Q, outputs]``.
        mask: ``[B, Q]`` bool, or None.
    """
    real = _places(targets, mask)
    predicted, right = (part.double().movedim(-1, 1) for part in (predictions, targets))  # [B, outputs, Q]
    return _correlation(predicted, right, real.unsqueeze(1)).mean(dim=1).to(at_least_float32(predictions).dtype)


def spearman(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return Spearman's rank correlation in [-1, 1], the mean over outputs; equal values share their mean rank.

    Undefined if the targets or the predictions of an output are all equal, as those of a single example are.

    Args:
        predictions: ``[B, Q, outputs]``.
        targets: ``[B, Q, outputs]``.
        mask: ``[B, Q]`` bool, or None.
    """
    real = _places(targets, mask).unsqueeze(1)
    predicted, right = (_ranks(part.movedim(-1, 1), real) for part in (predictions, targets))
    return _correlation(predicted, right, real).mean(dim=1).to(at_least_float32(predictions).dtype)


def accuracy(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the share of examples whose largest score is that of their class, in [0, 1]; always defined.

    Args:
        predictions: ``[B, Q, N]`` logits, or any scores of which the largest wins.
        targets: ``[B, Q]`` int64 labels in 0..N-1.
        mask: ``[B, Q]`` bool, or None.
    """
    return _mean((predictions.argmax(dim=-1) == targets).float(), mask)


def average_precision(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the area under the precision-recall curve as a sum over its steps, in [0, 1].

        sum over thresholds t of  precision(t) (recall(t) - recall(before t)),  examples of equal score at one threshold

    The score of an example is its logit of class 1 minus that of class 0. As scikit-learn's
    ``average_precision_score``, but undefined without an example of class 1. If all predictions are equal, it is the
    share of class 1.

    Args:
        predictions: ``[B, Q, 2]`` logits.
        targets: ``[B, Q]`` int64 labels, 0 or 1.
        mask: ``[B, Q]`` bool, or None.

    Raises:
        UserError: the tasks have another number of classes than two.
    """
    if predictions.shape[-1] != 2:
        raise UserError(
            f"average precision is for two classes, but the tasks have {predictions.shape[-1]}: choose the metric "
            "accuracy"
        )
    real = _places(targets, mask)
    positive = real & (targets == 1)
    logits = at_least_float32(predictions)
    scores = logits[..., 1] - logits[..., 0]
    # how many examples, and how many of class 1, have at least the score of each example
    found = real.sum(dim=1, keepdim=True) - _below(scores, real)
    right = positive.sum(dim=1, keepdim=True) - _below(scores, positive)
    precision = torch.where(positive, right.double() / found, 0.0)
    known = torch.where(real, scores, 0.0).isfinite().all(dim=1)
    # without an example of class 1 it is 0 / 0
    return torch.where(known, precision.sum(dim=1) / positive.sum(dim=1), torch.nan).to(logits.dtype)


def delta_auprc(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the average precision minus the share of class 1, which guessing would have (Stanley et al. 2021).

    Undefined if all examples are of one class.

    Args:
        predictions: ``[B, Q, 2]`` logits.
        targets: ``[B, Q]`` int64 labels, 0 or 1.
        mask: ``[B, Q]`` bool, or None.
    """
    area = average_precision(predictions, targets, mask)
    share = _mean((targets == 1).to(area.dtype), mask)
    return torch.where(share < 1, area - share, torch.nan)


OF_REGRESSION: dict[str, TaskMetric] = {"mse": mse, "rmse": rmse, "pearson": pearson, "spearman": spearman}
OF_CLASSIFICATION: dict[str, TaskMetric] = {
    "accuracy": accuracy,
    "average_precision": average_precision,
    "delta_auprc": delta_auprc,
}


def _places(targets: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mask, ``[B, Q]``: all True if there is none."""
    return torch.ones(targets.shape[:2], dtype=torch.bool, device=targets.device) if mask is None else mask


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of values ``[B, Q]`` over the examples of each task."""
    if mask is None:
        return values.mean(dim=1)
    return torch.where(mask, values, 0.0).sum(dim=1) / mask.sum(dim=1)


def _correlation(a: Tensor, b: Tensor, real: Tensor) -> Tensor:
    """Return Pearson's correlation of float64 ``a`` and ``b`` ``[B, D, Q]`` over the last axis, where ``real``."""
    a, b = (_centred(values, real) for values in (a, b))
    return (a * b).sum(dim=-1).clamp(-1, 1)


def _centred(values: Tensor, real: Tensor) -> Tensor:
    """Return values ``[B, D, Q]`` minus their mean where ``real``, at length 1; NaN if all are equal."""
    # relative to the first, which is real: equal values become zeros exactly, whose rounded mean could differ from them
    values = torch.where(real, values - values[..., :1], 0.0)
    values = torch.where(real, values - values.sum(dim=-1, keepdim=True) / real.sum(dim=-1, keepdim=True), 0.0)
    # two steps, so that the squares of very small or large values neither vanish nor overflow
    values = values / values.abs().amax(dim=-1, keepdim=True)
    return values / values.square().sum(dim=-1, keepdim=True).sqrt()


def _below(values: Tensor, counted: Tensor) -> Tensor:
    """Return for each of ``values`` ``[..., Q]`` how many of those that are ``counted`` are smaller."""
    ordered = torch.where(counted, values, torch.inf).sort(dim=-1).values
    return torch.searchsorted(ordered, values.contiguous())


def _ranks(values: Tensor, real: Tensor) -> Tensor:
    """Return twice the mean rank of values ``[B, D, Q]`` among those that are ``real``; NaN of what is not finite."""
    ordered = torch.where(real, values, torch.inf).sort(dim=-1).values
    ordered, values = ordered.contiguous(), values.contiguous()
    first, last = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    ranks = (first + last).double()
    return torch.where(values.isfinite(), ranks, torch.nan)
