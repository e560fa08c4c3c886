"""Policies: networks from observations to distributions over actions.

A distribution is a tensor of its parameters ``[..., P]``, so that it passes through the engine as any prediction does.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.expected_inputs import check_vectors
from metalit.networks.lstm_cell import LSTMCell

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


class RecurrentPolicy(Policy):
    """A policy with a memory: an LSTM reads the inputs of a trial, and another policy acts on its output.

    Args:
        policy: maps the LSTM's outputs ``[n, hidden]`` to distributions.
        inputs: length of an input: that of an observation, of an action (or the number of actions), and 2 for the last
            reward and the beginning of an episode.
        hidden: length of the LSTM's output.
    """

    def __init__(self, policy: Policy, inputs: int, hidden: int = 48) -> None:
        super().__init__(LSTMCell(inputs, hidden))
        self.policy, self.discrete, self.inputs, self.hidden = policy, policy.discrete, inputs, hidden
        at_least(1, inputs=inputs, hidden=hidden)

    def begin(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return an empty memory for trials with inputs ``[..., inputs]``."""
        zeros = inputs.new_zeros(*inputs.shape[:-1], self.hidden)
        return zeros, zeros

    def step(self, inputs: Tensor, memory: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the distributions after one more input ``[..., inputs]`` of each trial, and the memory."""
        check_vectors(self, inputs, self.inputs)
        memory = self.network(inputs, *memory)
        return self.policy(memory[0]), memory

    def read(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the distributions after each input of trials ``[n, T, inputs]``, ``[n, T, P]``, and the memory."""
        memory, outputs = self.begin(inputs[:, 0]), []
        for each in inputs.unbind(dim=1):
            memory = self.network(each, *memory)
            outputs.append(memory[0])
        return self.policy(torch.stack(outputs, dim=1)), memory

    def forward(self, observations: Tensor, *more: Any) -> Tensor:
        """Return the distributions after each input of trials ``[n, T, inputs]``, ``[n, T, P]``."""
        return self.read(observations)[0]

    def distribution(self, outputs: Tensor) -> Tensor:
        """Return the distribution's parameters from the LSTM's outputs ``[..., hidden]``."""
        return self.policy(outputs)  # type: ignore[no-any-return]

    def log_prob(self, distribution: Tensor, actions: Tensor) -> Tensor:
        """Return log-probabilities ``[...]`` of actions."""
        return self.policy.log_prob(distribution, actions)

    def sample(self, distribution: Tensor, draws: Any) -> Tensor:
        """Return actions."""
        return self.policy.sample(distribution, draws)

    def mode(self, distribution: Tensor) -> Tensor:
        """Return the most likely actions."""
        return self.policy.mode(distribution)

    def divergence(self, distribution: Tensor, other: Tensor) -> Tensor:
        """Return KL(distribution || other)."""
        return self.policy.divergence(distribution, other)

    def entropy(self, distribution: Tensor) -> Tensor:
        """Return the entropies."""
        return self.policy.entropy(distribution)
