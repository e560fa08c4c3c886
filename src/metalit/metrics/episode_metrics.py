"""Metrics of predictions, one value per episode."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from metalit.errors import SettingError
from metalit.metrics.task_metrics import OF_CLASSIFICATION, OF_REGRESSION
from metalit.tasks.precision import at_least_float32

# by which an algorithm is judged, the first that there is
PRIMARY = ("accuracy", "mse", "rmse", "delta_auprc", "average_precision", "pearson", "spearman", "return", "loss")


def episode_metrics(
    predictions: Tensor,
    targets: Tensor,
    loss: Tensor,
    mask: Tensor | None = None,
    metrics: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Compute the metrics of each episode at every stage of adaptation.

    Args:
        predictions: ``[B, T, Q, N]`` logits, or any scores of which the largest wins; in regression
            ``[B, T, Q, outputs]`` values.
        targets: ``[B, Q]`` integers in 0..N-1 for classification, ``[B, Q, outputs]`` floats for regression.
        loss: ``[B, T]`` query loss. If it has no axis T, predictions have none either.
        mask: ``[B, Q]`` bool, True where there is a query; None if there is one at every place.
        metrics: names of functions of ``task_metrics``; by default accuracy in classification, mse in regression.

    Returns:
        ``loss`` and the metrics, each in the shape of ``loss`` and at least float32 precision. NaN where a metric is
        undefined; a loss or an error that is not a number is infinite instead.

    Raises:
        SettingError: a metric is unknown, or not one of such tasks.
    """
    known = OF_REGRESSION if targets.is_floating_point() else OF_CLASSIFICATION
    check_metrics(metrics, known)
    stages = loss.shape[1] if loss.ndim > 1 else 1
    # tasks and stages become one axis, over which the functions compute
    flat = predictions if loss.ndim == 1 else predictions.flatten(0, 1)
    targets = targets.repeat_interleave(stages, dim=0)
    mask = None if mask is None else mask.repeat_interleave(stages, dim=0)
    values = {"loss": at_least_float32(loss)}
    for name in metrics or list(known)[:1]:
        values[name] = known[name](flat, targets, mask).reshape(loss.shape)
    return {name: diverged(value) if name in ("loss", "mse", "rmse") else value for name, value in values.items()}


def check_metrics(metrics: Sequence[str], known: Collection[str] = (*OF_REGRESSION, *OF_CLASSIFICATION)) -> None:
    """Refuse names of metrics that there are not.

    Raises:
        SettingError: a name is not one of ``known``.
    """
    for name in metrics:
        if name not in known:
            raise SettingError("data.metrics", name, f"some of the metrics of such tasks: {', '.join(known)}")


def diverged(values: Tensor) -> Tensor:
    """Return losses or errors with infinity in place of NaN.

    NaN stands for "undefined" and is left out of means; a prediction that is not a number is worse than any other.
    """
    return torch.where(values.isnan(), torch.inf, values)


def primary_metric(names: Collection[str]) -> str:
    """Return the metric by which an algorithm is judged: accuracy, else mean squared error, ..., else the loss."""
    return next(name for name in PRIMARY if name in names)
