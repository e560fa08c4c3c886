"""Kernels of Gaussian processes, which a head is built with; their formulas are in ``functional.kernels``."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import at_least, positive
from metalit.functional.distances import cosines
from metalit.functional.kernels import matern52, spectral_mixture, squared_exponential


class Kernel(nn.Module, ABC):
    """The covariance of a Gaussian process between embeddings: a function of two of them, times a learned scale.

    Args:
        output_scale: factor before training, > 0: the variance of the process where the function is 1. It is learned
            through its logarithm, which keeps it positive.

    Raises:
        SettingError: a number is not positive.
    """

    def __init__(self, output_scale: float = 1.0) -> None:
        super().__init__()
        self.log_output_scale = logarithm("output_scale", output_scale)

    @abstractmethod
    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the unscaled function of all pairs of ``[n, D]`` and ``[m, D]``, ``[n, m]``."""

    @abstractmethod
    def likeness_to_itself(self, a: Tensor) -> Tensor:
        """Return the unscaled function of each embedding with itself, ``[n]``."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the covariance of all pairs of ``[n, D]`` and ``[m, D]``, ``[n, m]``."""
        return self.log_output_scale.exp() * self.likeness(a, b)

    def variance(self, a: Tensor) -> Tensor:
        """Return the variance at each of ``[n, D]`` embeddings, ``[n]``: the diagonal of ``forward(a, a)``."""
        return self.log_output_scale.exp() * self.likeness_to_itself(a)


class RBFKernel(Kernel):
    """The squared exponential exp(-d^2 / (2 length_scale^2)) of the Euclidean distance d.

    Args:
        length_scale: before training, > 0, in units of the embedding; one for all dimensions, since the network can
            scale each; learned through its logarithm.
        output_scale: as of every kernel.
    """

    def __init__(self, length_scale: float = 1.0, output_scale: float = 1.0) -> None:
        super().__init__(output_scale)
        self.log_length_scale = logarithm("length_scale", length_scale)

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the squared exponential."""
        return squared_exponential(a, b, self.log_length_scale.exp())

    def likeness_to_itself(self, a: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones_like(a[:, 0])


class Matern52Kernel(Kernel):
    """The Matérn function of smoothness 5/2: functions that are twice differentiable, less smooth than ``RBFKernel``'s.

    Args:
        length_scale: before training, > 0, in units of the embedding; learned through its logarithm.
        output_scale: as of every kernel.
    """

    def __init__(self, length_scale: float = 1.0, output_scale: float = 1.0) -> None:
        super().__init__(output_scale)
        self.log_length_scale = logarithm("length_scale", length_scale)

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the Matérn function."""
        return matern52(a, b, self.log_length_scale.exp())

    def likeness_to_itself(self, a: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones_like(a[:, 0])


class SpectralMixtureKernel(Kernel):
    """A mixture of periodic functions under Gaussian envelopes (Wilson and Adams 2013), for what repeats.

    Frequencies are drawn at random, so each Gaussian learns its own. They and the widths of the envelopes differ
    between dimensions.

    Args:
        features: D, length of an embedding, >= 1.
        mixtures: number of Gaussians in the space of frequencies, >= 1.
        length_scale: width of the envelopes before training, > 0, in units of the embedding; frequencies are drawn
            normally with the standard deviation of an envelope's spectrum, 1 / (2 pi length_scale).
        output_scale: as of every kernel; the shares of the Gaussians sum to 1.

    Raises:
        SettingError: a number is out of range.
    """

    def __init__(self, features: int, mixtures: int = 4, length_scale: float = 1.0, output_scale: float = 1.0) -> None:
        super().__init__(output_scale)
        at_least(1, features=features, mixtures=mixtures)
        width = 1 / (2 * math.pi * positive("length_scale", length_scale))
        self.shares = nn.Parameter(torch.zeros(mixtures))  # before the softmax
        self.means = nn.Parameter(width * torch.randn(mixtures, features))
        self.log_deviations = nn.Parameter(torch.full((mixtures, features), math.log(width)))

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the spectral mixture function."""
        return spectral_mixture(a, b, self.shares.softmax(dim=0), self.means, self.log_deviations.exp())

    def likeness_to_itself(self, a: Tensor) -> Tensor:
        """Return ones, the sum of the shares."""
        return torch.ones_like(a[:, 0])


class LinearKernel(Kernel):
    """The scalar product of the embeddings: the process is Bayesian linear regression on them, without an intercept."""

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the scalar products."""
        return a @ b.mT

    def likeness_to_itself(self, a: Tensor) -> Tensor:
        """Return the squared lengths."""
        return a.square().sum(dim=-1)


class CosineKernel(Kernel):
    """The cosine of the angle between the embeddings; 0 for an embedding of zeros."""

    def likeness(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the cosines."""
        return cosines(a, b)

    def likeness_to_itself(self, a: Tensor) -> Tensor:
        """Return ones, or 0 for an embedding of zeros."""
        return F.normalize(a, dim=-1).square().sum(dim=-1)


def logarithm(name: str, value: float) -> nn.Parameter:
    """Return the logarithm of a setting that is learned and has to stay positive, as a 0-d parameter.

    Raises:
        SettingError: the setting is not positive.
    """
    return nn.Parameter(torch.tensor(math.log(positive(name, value))))
