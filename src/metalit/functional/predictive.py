"""Predictive distributions: mixtures of what M samples of a model predict, and how good they are.

Legend: M samples, n examples.
"""

import math

import torch
from torch import Tensor

from metalit.tasks.precision import full_precision

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@full_precision
def mixture(values: Tensor, classification: bool) -> Tensor:
    """Return the prediction of the mixture, ``[n, ...]``.

    Args:
        values: ``[M, n, outputs]`` values, or ``[M, n, N]`` logits.
        classification: whether they are logits; the result is then the log of the mean probabilities, logits too.
    """
    if not classification:
        return values.mean(dim=0)
    return values.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(values))


@full_precision
def gaussian_nll(values: Tensor, log_std: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of targets under a mixture of M Gaussians, a mean over the examples, 0-d.

    Args:
        values: ``[M, n, outputs]`` means; outputs are independent within a sample.
        log_std: log of the standard deviations, in a shape that broadcasts to theirs.
        targets: ``[n, outputs]``.
    """
    standardised = (targets - values) * (-log_std).exp()
    log_density = -0.5 * standardised.square() - log_std - HALF_LOG_2PI
    return math.log(len(values)) - log_density.sum(dim=-1).logsumexp(dim=0).mean()


@full_precision
def gaussian_spread(values: Tensor, log_std: Tensor) -> Tensor:
    """Return the standard deviation of a mixture of M Gaussians, ``[n, outputs]``.

    Args:
        values: ``[M, n, outputs]`` means.
        log_std: log of the standard deviations, in a shape that broadcasts to theirs.
    """
    within = (2 * log_std).exp().expand(values.shape).mean(dim=0)
    return (within + values.var(dim=0, correction=0)).sqrt()


@full_precision
def gaussian_kl(mean: Tensor, log_std: Tensor, prior_mean: Tensor, prior_log_std: Tensor) -> Tensor:
    """Return KL(N(mean, std^2) || N(prior_mean, prior_std^2)), summed over all dimensions, 0-d."""
    ratio = 2 * (log_std - prior_log_std)
    distance = (mean - prior_mean).square() * (-2 * prior_log_std).exp()
    return (ratio.exp() + distance - 1 - ratio).sum() / 2


def fitted_gaussian_nll(squared_errors: Tensor, fitted_to: Tensor) -> Tensor:
    """Return the negative log-likelihood per point of point predictions under a Gaussian of one fitted variance.

    The variance is the one that is best for other tasks, their mean squared error v: with m the error of a task,
    0.5 log(2 pi v) + m / (2 v). What a method without any notion of uncertainty is given for comparison.

    Args:
        squared_errors: ``[tasks]`` mean squared error of each task.
        fitted_to: ``[other tasks]`` those that the variance is fitted to.

    Returns:
        ``[tasks]``.
    """
    variance = fitted_to.mean()
    return HALF_LOG_2PI + 0.5 * variance.log() + squared_errors / (2 * variance)


@full_precision
def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> Tensor:
    """Return the mean distance between confidence and accuracy over bins of equal width (Guo et al. 2017), 0-d.

    Args:
        logits: ``[n, N]``.
        labels: ``[n]`` in 0..N-1.
        bins: how many.
    """
    confidence, predicted = logits.softmax(dim=-1).max(dim=-1)
    correct = (predicted == labels).to(confidence.dtype)
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype, device=confidence.device)
    # a confidence of 1 has a bin of its own, as in torchmetrics
    place = (confidence.unsqueeze(-1) >= edges).sum(dim=-1) - 1
    inside = (place.unsqueeze(-1) == torch.arange(bins + 1, device=place.device)).to(confidence.dtype)
    return ((correct - confidence).unsqueeze(-1) * inside).mean(dim=0).abs().sum()
