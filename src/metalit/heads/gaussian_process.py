"""A Gaussian process on the embeddings of a task."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.errors import check, not_negative
from metalit.functional.distances import membership
from metalit.functional.gaussian_process import (
    cholesky,
    conditioned,
    negative_log_marginal_likelihood,
    padded_covariance,
    posterior,
)
from metalit.functional.masks import count_examples, without_padding
from metalit.heads.base import Head
from metalit.heads.kernels import Kernel, logarithm
from metalit.tasks.precision import full_precision


class Conditioned(NamedTuple):
    """A Gaussian process given a support set.

    Attributes:
        x: support embeddings, ``[S, D]``, 0 where there is no example.
        mask: ``[S]`` bool, True where there is an example; None if there is one at every place.
        inverse: of the lower Cholesky factor of the targets' covariance, ``[S, S]`` float64.
        coefficients: inverse covariance times the targets less their mean, ``[S, outputs or N]`` float64.
        classification: whether the targets are classes.
    """

    x: Tensor
    mask: Tensor | None
    inverse: Tensor
    coefficients: Tensor
    classification: bool


class GaussianProcess(Head):
    """Regression by a Gaussian process with Gaussian noise; it classifies by regression on labels of 1 and -1.

        y = mean + f(x) + e,    f ~ GP(0, kernel),    e ~ N(0, noise)

    Several outputs, or the N classes, are independent and share kernel, noise and mean. The equations are solved in
    float64. Nothing is added to the diagonal but the noise.

    With classes, the logits are 2 mean / variance of the prediction at the query: of the N codes with one 1 and
    otherwise -1, their softmax is the posterior probability given that the target is one of them.

    Args:
        kernel: the covariance of f.
        noise: variance of the noise before training, above ``min_noise``.
        min_noise: what the noise cannot fall below, >= 0: a bound for the condition of the equations and for the
            likelihood of targets without noise.
        learn_noise: whether the noise is learned, through the logarithm of its excess over ``min_noise``.

    Raises:
        SettingError: a number is out of range.
    """

    regresses = True
    honours_masks = True

    def __init__(self, kernel: Kernel, noise: float = 0.1, min_noise: float = 1e-4, learn_noise: bool = True) -> None:
        super().__init__()
        self.kernel, self.min_noise = kernel, not_negative("min_noise", min_noise)
        check("noise", noise, noise > min_noise, f"a variance above min_noise, {min_noise}")
        self.log_noise = logarithm("noise", noise - min_noise).requires_grad_(learn_noise)
        self.mean = nn.Parameter(torch.zeros(()))

    def noise(self) -> Tensor:
        """Return the variance of the noise, 0-d."""
        return self.min_noise + self.log_noise.exp()

    @full_precision
    def fit(self, support: Labelled, ways: int) -> Conditioned:
        """Return the process given a support set."""
        x, targets = self.exact(support, ways)
        inverse, coefficients = conditioned(self.factor(x, support.mask), targets)
        classification = not support.y.is_floating_point()
        return Conditioned(x.to(support.x.dtype), support.mask, inverse, coefficients, classification)

    @full_precision
    def predictive(self, fitted: Conditioned, query: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean ``[Q, outputs or N]`` and variance ``[Q]`` of the targets at queries, noise included."""
        exact = query.double()
        across = self.kernel(fitted.x.double(), exact)
        across = without_padding(across, fitted.mask)
        mean, variance = posterior(fitted.inverse, fitted.coefficients, across, self.kernel.variance(exact))
        return (self.mean + mean).to(query.dtype), (variance + self.noise()).to(query.dtype)

    def classify(self, fitted: Conditioned, query: Tensor) -> Tensor:
        """Return the mean of the targets ``[Q, outputs]``; with classes, logits ``[Q, N]``."""
        mean, variance = self.predictive(fitted, query)
        return 2 * mean / variance.unsqueeze(-1) if fitted.classification else mean

    @full_precision
    def loss(self, examples: Labelled, ways: int) -> Tensor:
        """Return minus the log marginal likelihood of embedded examples, per example, summed over outputs or classes.

        Args:
            examples: embeddings ``[n, D]``, and targets ``[n, outputs]`` or labels ``[n]``.
            ways: N; 0 in regression.

        Returns:
            0-d, in nats.
        """
        x, targets = self.exact(examples, ways)
        count = count_examples(examples.mask, len(x))
        total = negative_log_marginal_likelihood(self.factor(x, examples.mask), targets, count)
        return (total / count).to(examples.x.dtype)

    def exact(self, examples: Labelled, ways: int) -> tuple[Tensor, Tensor]:
        """Return embeddings ``[n, D]`` and targets less their mean ``[n, outputs or N]`` in float64; 0 in padding."""
        x, y = examples.x.double(), examples.y
        targets = y.double() if y.is_floating_point() else 2 * membership(y, ways, x).mT - 1
        targets = targets - self.mean.double()
        return without_padding(x, examples.mask), without_padding(targets, examples.mask)

    def factor(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the lower Cholesky factor of the targets' covariance at embeddings ``[n, D]``, ``[n, n]``."""
        noise = self.noise() * torch.eye(len(x), dtype=x.dtype, device=x.device)
        return cholesky(padded_covariance(self.kernel(x, x) + noise, mask))
