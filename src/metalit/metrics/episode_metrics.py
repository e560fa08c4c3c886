"""Metrics of predictions, one value per episode."""

from collections.abc import Collection

from torch import Tensor

from metalit.tasks.precision import at_least_float32


def episode_metrics(predictions: Tensor, targets: Tensor, loss: Tensor) -> dict[str, Tensor]:
    """Compute the metrics of each episode at every stage of adaptation.

    Args:
        predictions: ``[B, T, Q, N]`` logits, or any scores of which the largest wins; in regression
            ``[B, T, Q, outputs]`` values.
        targets: ``[B, Q]`` integers in 0..N-1 for classification, ``[B, Q, outputs]`` floats for regression.
        loss: ``[B, T]`` query loss. If it has no axis T, predictions have none either.

    Returns:
        ``loss`` and, in classification, ``accuracy`` in [0, 1]; in regression ``mse``, the squared error averaged
        over query points and outputs. Each has the shape of ``loss`` and at least float32 precision.
    """
    # a singleton axis for T, over which the targets broadcast
    targets = targets.reshape(len(targets), *[1] * (loss.ndim - 1), *targets.shape[1:])
    values = {"loss": at_least_float32(loss)}
    if targets.is_floating_point():
        errors = at_least_float32(predictions) - targets
        values["mse"] = errors.square().flatten(loss.ndim).mean(-1)
    else:
        values["accuracy"] = (predictions.argmax(-1) == targets).float().flatten(loss.ndim).mean(-1)
    return values


def primary_metric(names: Collection[str]) -> str:
    """Return the metric by which an algorithm is judged: accuracy, mean squared error, return, or the loss."""
    return next(name for name in ("accuracy", "mse", "return", "loss") if name in names)
