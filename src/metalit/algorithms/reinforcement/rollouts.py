"""Trajectories of policies in environments.

Legend: B tasks, n trajectories of each, H time steps, S the length of an observation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalit.environments import Environment
from metalit.networks.policies import Policy
from metalit.tasks.keyed_draws import KeyedDraws


class Trajectories(NamedTuple):
    """What policies have experienced; 0 after the end of a trajectory.

    Attributes:
        observations: ``[B, n, H, S]``.
        actions: ``[B, n, H, size]``, or ``[B, n, H]`` int64.
        rewards: ``[B, n, H]``.
        distributions: ``[B, n, H, P]``, which the actions were drawn from.
        log_probs: ``[B, n, H]``, of the actions.
        mask: ``[B, n, H]`` bool, False after the end.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    distributions: Tensor
    log_probs: Tensor
    mask: Tensor

    @property
    def returns(self) -> Tensor:
        """Return the mean undiscounted return of each task, ``[B]``."""
        return self.rewards.sum(dim=-1).mean(dim=-1)


@torch.no_grad()
def roll_out(
    environment: Environment,
    policy: Policy,
    act: Callable[[Tensor], Tensor],
    parameters: Any,
    trajectories: int,
    draws: KeyedDraws,
) -> Trajectories:
    """Let a policy act in all tasks until every trajectory has ended.

    Args:
        environment: where.
        policy: samples actions.
        act: maps observations ``[B, n, S]`` to the parameters of distributions ``[B, n, P]``.
        parameters: the tasks', a pytree ``[B, ...]``.
        trajectories: n.
        draws: the tasks' random numbers.
    """
    state = environment.begin(parameters, trajectories, draws)
    steps, alive = [], None
    for _ in range(environment.horizon):
        observations = environment.observe(parameters, state)
        alive = torch.ones_like(observations[..., 0], dtype=torch.bool) if alive is None else alive
        distribution = act(observations)
        actions = policy.sample(distribution, draws)
        state, rewards, done = environment.step(parameters, state, actions, draws)
        log_probs = policy.log_prob(distribution, actions)
        steps.append((observations, actions, rewards * alive, distribution, log_probs, alive))
        alive = alive & ~done
    return Trajectories(*(torch.stack(part, dim=2) for part in zip(*steps, strict=True)))
