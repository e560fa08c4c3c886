"""Policies: networks from observations to distributions over actions.

A distribution is a tensor of its parameters ``[..., P]``, so that it passes through the engine as any prediction does.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from metalit.errors import at_least

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Policy(nn.Module, ABC):
    """Maps observations to the parameters of a distribution over actions.

    Args:
        network: ``[n, S]`` to ``[n, outputs]``; further arguments of the policy, such as context parameters, go to it.

    Attributes:
        discrete: whether actions are numbers of a list.
    """

    discrete: bool

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def distribution(self, outputs: Tensor) -> Tensor:
        """Return the distribution's parameters ``[..., P]`` from the network's outputs ``[..., outputs]``."""

    @abstractmethod
    def log_prob(self, distribution: Tensor, actions: Tensor) -> Tensor:
        """Return log-probabilities ``[...]`` of actions, ``[..., size]`` or ``[...]`` int64."""

    @abstractmethod
    def sample(self, distribution: Tensor, draws: Any) -> Tensor:
        """Return actions drawn from distributions ``[B, n, P]`` with the tasks' random numbers (``KeyedDraws``)."""

    @abstractmethod
    def mode(self, distribution: Tensor) -> Tensor:
        """Return the most likely actions."""

    @abstractmethod
    def divergence(self, distribution: Tensor, other: Tensor) -> Tensor:
        """Return KL(distribution || other), ``[...]``."""

    @abstractmethod
    def entropy(self, distribution: Tensor) -> Tensor:
        """Return the entropies, ``[...]``, in nats."""

    def forward(self, observations: Tensor, *more: Any) -> Tensor:
        """Return the parameters of the distributions, ``[..., P]``, for observations ``[..., S]``."""
        flat = observations.flatten(0, -2)
        return self.distribution(self.network(flat, *more)).reshape(*observations.shape[:-1], -1)


class GaussianPolicy(Policy):
    """A Gaussian with the network's output as mean, and a learned standard deviation that no observation changes.

    Args:
        network: ``[n, S]`` to ``[n, actions]``.
        actions: length of an action.
        std: standard deviation before training, > 0.
        min_std: standard deviations below this count as this, > 0.

    Attributes:
        log_std: ``[actions]``, learned, and adapted with the network unless ``adapted`` says otherwise.
    """

    discrete = False

    def __init__(self, network: nn.Module, actions: int = 2, std: float = 1.0, min_std: float = 1e-6) -> None:
        super().__init__(network)
        at_least(1, actions=actions)
        self.log_std = nn.Parameter(torch.full((actions,), math.log(std)))
        self.least = math.log(min_std)

    def distribution(self, outputs: Tensor) -> Tensor:
        """Return means and log standard deviations, ``[..., 2 actions]``."""
        return torch.cat([outputs, self.log_std.clamp(min=self.least).expand(outputs.shape)], dim=-1)

    def log_prob(self, distribution: Tensor, actions: Tensor) -> Tensor:
        """Return log-densities ``[...]`` of actions ``[..., actions]``."""
        mean, log_std = distribution.chunk(2, dim=-1)
        return (-0.5 * ((actions - mean) * (-log_std).exp()).square() - log_std - HALF_LOG_2PI).sum(dim=-1)

    def sample(self, distribution: Tensor, draws: Any) -> Tensor:
        """Return actions ``[B, n, actions]``."""
        mean, log_std = distribution.chunk(2, dim=-1)
        noise: Tensor = draws.normal(*mean.shape[1:])
        return mean + log_std.exp() * noise

    def mode(self, distribution: Tensor) -> Tensor:
        """Return the means."""
        return distribution.chunk(2, dim=-1)[0]

    def divergence(self, distribution: Tensor, other: Tensor) -> Tensor:
        """Return KL(distribution || other), summed over the action's entries."""
        (mean, log_std), (mean_2, log_std_2) = distribution.chunk(2, dim=-1), other.chunk(2, dim=-1)
        ratio = (2 * (log_std - log_std_2)).exp() + ((mean - mean_2) * (-log_std_2).exp()).square()
        return (log_std_2 - log_std + 0.5 * (ratio - 1)).sum(dim=-1)

    def entropy(self, distribution: Tensor) -> Tensor:
        """Return the entropies, summed over the action's entries."""
        return (distribution.chunk(2, dim=-1)[1] + 0.5 + HALF_LOG_2PI).sum(dim=-1)


class CategoricalPolicy(Policy):
    """Chooses one of several actions, with the network's outputs as logits.

    Args:
        network: ``[n, S]`` to ``[n, actions]``.
    """

    discrete = True

    def distribution(self, outputs: Tensor) -> Tensor:
        """Return log-probabilities, ``[..., actions]``."""
        return outputs.log_softmax(dim=-1)

    def log_prob(self, distribution: Tensor, actions: Tensor) -> Tensor:
        """Return log-probabilities ``[...]`` of actions ``[...]``."""
        return distribution.gather(-1, actions[..., None])[..., 0]

    def sample(self, distribution: Tensor, draws: Any) -> Tensor:
        """Return actions ``[B, n]``."""
        return draws.categorical(distribution)  # type: ignore[no-any-return]

    def mode(self, distribution: Tensor) -> Tensor:
        """Return the most likely actions."""
        return distribution.argmax(dim=-1)

    def divergence(self, distribution: Tensor, other: Tensor) -> Tensor:
        """Return KL(distribution || other)."""
        return (distribution.exp() * (distribution - other)).sum(dim=-1)

    def entropy(self, distribution: Tensor) -> Tensor:
        """Return the entropies."""
        return -(distribution.exp() * distribution).sum(dim=-1)
