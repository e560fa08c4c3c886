"""Predictive distributions as mixtures over samples of a model, and measures of their quality.

Legend: M samples of the model, n examples, N classes.
"""

import math

import torch
from torch import Tensor

from metalit.functional.masks import masked_mean
from metalit.tasks.precision import full_precision

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@full_precision
def mixture(values: Tensor, classification: bool) -> Tensor:
    """Return the mixture's prediction: mean values ``[n, outputs]``, or logits ``[n, N]``.

    Args:
        values: ``[M, n, outputs]`` values, or ``[M, n, N]`` logits.
        classification: whether ``values`` are logits. The result is then the log of the mean probabilities, which
            serves as logits.
    """
    if not classification:
        return values.mean(dim=0)
    # probabilities are averaged, not logits: logits have an arbitrary offset per sample. In logs, against underflow.
    return values.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(values))


@full_precision
def gaussian_nll(values: Tensor, log_std: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean negative log-likelihood of the targets under a mixture of M Gaussians, in nats, 0-d.

    Args:
        values: means of the Gaussians, ``[M, n, outputs]``; outputs are independent within a sample.
        log_std: log standard deviations, in a shape that broadcasts to ``values``.
        targets: ``[n, outputs]``.
        mask: ``[n]`` bool, True where there is an example; None if there is one at every place.
    """
    standardised = (targets - values) * (-log_std).exp()
    log_density = -0.5 * standardised.square() - log_std - HALF_LOG_2PI
    # the sum over outputs comes before the mixture: all outputs of an example belong to the same sample
    return math.log(len(values)) - masked_mean(log_density.sum(dim=-1).logsumexp(dim=0), mask)


@full_precision
def gaussian_spread(values: Tensor, log_std: Tensor) -> Tensor:
    """Return the standard deviation of a mixture of M Gaussians, ``[n, outputs]``.

    Args:
        values: means of the Gaussians, ``[M, n, outputs]``.
        log_std: log standard deviations, in a shape that broadcasts to ``values``.
    """
    # the law of total variance: the mean variance of the Gaussians, plus the variance of their means
    within = (2 * log_std).exp().expand(values.shape).mean(dim=0)
    return (within + values.var(dim=0, correction=0)).sqrt()


@full_precision
def gaussian_kl(mean: Tensor, log_std: Tensor, prior_mean: Tensor, prior_log_std: Tensor) -> Tensor:
    """Return KL(N(mean, std^2) || N(prior_mean, prior_std^2)), summed over all dimensions, 0-d."""
    ratio = 2 * (log_std - prior_log_std)
    distance = (mean - prior_mean).square() * (-2 * prior_log_std).exp()
    return (ratio.exp() + distance - 1 - ratio).sum() / 2


def fitted_gaussian_nll(squared_errors: Tensor, fitted_to: Tensor) -> Tensor:
    """Return the negative log-likelihood per point of point predictions under a Gaussian with one fitted variance.

    This makes methods that predict no uncertainty comparable. The variance is the maximum-likelihood one of other
    tasks, their mean squared error v; a task with mean squared error m then has 0.5 log(2 pi v) + m / (2 v).

    Args:
        squared_errors: mean squared error of each task, ``[tasks]``.
        fitted_to: mean squared errors of the tasks that the variance is fitted to, ``[other tasks]``.

    Returns:
        ``[tasks]``, in nats.
    """
    variance = fitted_to.mean()
    return HALF_LOG_2PI + 0.5 * variance.log() + squared_errors / (2 * variance)


@full_precision
def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15, mask: Tensor | None = None) -> Tensor:
    """Return the expected calibration error over bins of equal width (Guo et al. 2017), 0-d in [0, 1].

    It is the mean distance between confidence and accuracy, with each bin weighted by its number of examples.

    Args:
        logits: ``[n, N]``.
        labels: ``[n]`` in 0..N-1.
        bins: number of bins.
        mask: ``[n]`` bool, True where there is an example; None if there is one at every place.
    """
    confidence, predicted = logits.softmax(dim=-1).max(dim=-1)
    correct = (predicted == labels).to(confidence.dtype)
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype, device=confidence.device)
    # a confidence of exactly 1 falls into a bin of its own, as in torchmetrics
    place = (confidence.unsqueeze(-1) >= edges).sum(dim=-1) - 1
    inside = (place.unsqueeze(-1) == torch.arange(bins + 1, device=place.device)).to(confidence.dtype)
    # a bin's share of the examples times its |accuracy - confidence| is the absolute value of this mean; written so, an
    # empty bin needs no division
    return masked_mean((correct - confidence).unsqueeze(-1) * inside, mask).abs().sum()
