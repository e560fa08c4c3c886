"""From predictions to numbers: one value per episode, then a mean with its confidence interval over episodes."""

import math
from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor

from metalit.errors import UserError
from metalit.tasks.precision import at_least_float32

NORMAL_QUANTILE = 1.96  # of the normal distribution at 97.5 %: the half width of a 95 % interval in standard errors


class Summary(NamedTuple):
    """What n episodes say about the mean over all episodes.

    Attributes:
        mean: mean over the episodes.
        ci95: half width of the 95 % confidence interval, 1.96 s/√n; nan for a single episode.
        std: s, the standard deviation over the episodes (with n-1); nan for a single episode.
    """

    mean: float
    ci95: float
    std: float


def summarise(values: Tensor) -> Summary:
    """Summarise one value per episode, in float64.

    Args:
        values: ``[n]``, n >= 1.

    Raises:
        ValueError: there are no values.
    """
    n = len(values)
    if n == 0:
        raise UserError("there is no episode to summarise: evaluate at least one")
    exact = values.detach().cpu().double()
    # torch.std warns for one value; nan without a warning is the answer wanted here
    std = exact.std().item() if n > 1 else math.nan
    return Summary(exact.mean().item(), NORMAL_QUANTILE * std / math.sqrt(n), std)


def episode_metrics(predictions: Tensor, targets: Tensor, loss: Tensor) -> dict[str, Tensor]:
    """Compute each episode's values at every stage of adaptation.

    Args:
        predictions: ``[B, T, Q, N]`` logits (any scores whose largest wins), or ``[B, T, Q, outputs]`` values.
        targets: ``[B, Q]`` integers in 0..N-1 for classification, ``[B, Q, outputs]`` floats for regression.
        loss: ``[B, T]`` query loss. Without the axis T, predictions have none either.

    Returns:
        ``loss`` and, in classification, ``accuracy`` in [0, 1]; in regression ``mse``, the squared error averaged
        over query points and outputs. Each has the shape of ``loss`` and at least float32 precision.
    """
    targets = targets.reshape(len(targets), *[1] * (loss.ndim - 1), *targets.shape[1:])
    values = {"loss": at_least_float32(loss)}
    if targets.is_floating_point():
        errors = at_least_float32(predictions) - targets
        values["mse"] = errors.square().flatten(loss.ndim).mean(-1)
    else:
        values["accuracy"] = (predictions.argmax(-1) == targets).float().flatten(loss.ndim).mean(-1)
    return values


def primary_metric(names: Collection[str]) -> str:
    """Return the metric that a method is judged by: accuracy, else mean squared error, else the loss."""
    return next(name for name in ("accuracy", "mse", "loss") if name in names)
