"""Bernoulli bandits (Duan et al. 2016, section 3.1.1)."""

import torch
from torch import Tensor

from metalit.environments.base import ActionSpace, Environment, Transition
from metalit.errors import at_least
from metalit.tasks.keyed_draws import KeyedDraws


class Bandit(Environment):
    """A bandit whose arms pay 1 with probabilities uniform in [0, 1), and otherwise 0.

    There is nothing to observe: an observation is the number 1. A trajectory has one pull, or ``horizon`` of them.

    Args:
        arms: number of arms, >= 2.
        horizon: pulls, >= 1.

    Raises:
        SettingError: a number is out of range.
    """

    observation_size = 1

    def __init__(self, arms: int = 5, horizon: int = 1) -> None:
        at_least(2, arms=arms)
        at_least(1, horizon=horizon)
        self.arms, self.horizon, self.numbers_per_task = arms, horizon, arms
        self.action_space = ActionSpace(arms, discrete=True)

    def parameters(self, numbers: Tensor) -> Tensor:
        """Return the probability of each arm, ``[B, arms]``."""
        return numbers

    def begin(self, parameters: Tensor, trajectories: int, draws: KeyedDraws) -> Tensor:
        """Return the observations, ``[B, n, 1]``, which never change."""
        return parameters.new_ones(len(parameters), trajectories, 1)

    def observe(self, parameters: Tensor, state: Tensor) -> Tensor:
        """Return ones, ``[B, n, 1]``."""
        return state

    def step(self, parameters: Tensor, state: Tensor, actions: Tensor, draws: KeyedDraws) -> Transition:
        """Pull arms ``[B, n]``."""
        rewards = (draws.uniform(actions.shape[1]) < parameters.gather(1, actions)).to(parameters.dtype)
        return Transition(state, rewards, torch.zeros_like(actions, dtype=torch.bool))
