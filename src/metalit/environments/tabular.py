"""Markov decision processes with few states, whose values can be computed exactly."""

from typing import NamedTuple

import torch
from torch import Tensor

from metalit.environments.base import ActionSpace, Environment, Transition
from metalit.errors import at_least
from metalit.tasks.keyed_draws import KeyedDraws


class Tables(NamedTuple):
    """The parameters of Markov decision processes with S states and A actions.

    Attributes:
        transitions: ``[B, S, A, S]``, probabilities of the next state.
        rewards: ``[B, S, A]``.
    """

    transitions: Tensor
    rewards: Tensor


class TabularMDP(Environment):
    """A random Markov decision process; trajectories start in state 0 and states are observed one-hot.

    Transitions are Dirichlet(1, ..., 1) and rewards uniform in [0, 1).

    Args:
        states: S, >= 1.
        actions: A, >= 2.
        horizon: H, >= 1.

    Raises:
        SettingError: a number is out of range.
    """

    def __init__(self, states: int = 5, actions: int = 3, horizon: int = 10) -> None:
        at_least(1, states=states, horizon=horizon)
        at_least(2, actions=actions)
        self.states, self.horizon, self.observation_size = states, horizon, states
        self.action_space = ActionSpace(actions, discrete=True)
        self.numbers_per_task = states * actions * (states + 1)

    def parameters(self, numbers: Tensor) -> Tables:
        """Return the tables of tasks."""
        table = numbers.reshape(len(numbers), self.states, self.action_space.size, self.states + 1)
        weights = -torch.log1p(-table[..., 1:])  # exponential, so that the shares are Dirichlet
        return Tables(weights / weights.sum(dim=-1, keepdim=True), table[..., 0])

    def begin(self, parameters: Tables, trajectories: int, draws: KeyedDraws) -> Tensor:
        """Return state 0 for every trajectory, ``[B, n]`` int64."""
        shape = len(parameters.rewards), trajectories
        return torch.zeros(shape, dtype=torch.int64, device=parameters.rewards.device)

    def observe(self, parameters: Tables, state: Tensor) -> Tensor:
        """Return one-hot states, ``[B, n, S]``."""
        return torch.nn.functional.one_hot(state, self.states).to(parameters.rewards.dtype)

    def step(self, parameters: Tables, state: Tensor, actions: Tensor, draws: KeyedDraws) -> Transition:
        """Take actions ``[B, n]``."""
        tasks = torch.arange(len(state), device=state.device)[:, None]
        rewards = parameters.rewards[tasks, state, actions]
        following = draws.categorical(parameters.transitions[tasks, state, actions].log())
        return Transition(following, rewards, torch.zeros_like(state, dtype=torch.bool))


def expected_return(tables: Tables, policy: Tensor, horizon: int, discount: float = 1.0) -> Tensor:
    """Return the exact expected discounted return of policies from state 0, ``[B]``; differentiable.

    Args:
        tables: the tasks.
        policy: ``[B, S, A]``, probabilities of actions in each state.
        horizon: H.
        discount: gamma, in [0, 1].
    """
    values = torch.zeros_like(tables.rewards[..., 0])
    for _ in range(horizon):
        following = torch.einsum("bsat,bt->bsa", tables.transitions, values)
        values = (policy * (tables.rewards + discount * following)).sum(dim=-1)
    return values[:, 0]
