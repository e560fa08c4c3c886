"""Trajectories of policies in environments.

Legend: B tasks, n trajectories of each, H time steps, S the length of an observation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalit.environments import Environment
from metalit.errors import UserError
from metalit.networks.policies import Policy
from metalit.tasks.keyed_draws import KeyedDraws
from metalit.tasks.random_bits import MASK32


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
        draws: the tasks' random numbers, by keys as a learner makes them.

    Raises:
        UserError: an observation, an action or a reward is not finite.
    """
    state = environment.begin(parameters, trajectories, draws)
    steps, alive = [], None
    for _ in range(environment.horizon):
        observations = environment.observe(parameters, state)
        alive = torch.ones_like(observations[..., 0], dtype=torch.bool) if alive is None else alive
        observations = observations.where(alive[..., None], 0)  # an ended trajectory may go anywhere
        distribution = act(observations)
        actions = policy.sample(distribution, draws)
        state, rewards, done = environment.step(parameters, state, actions, draws)
        log_probs = policy.log_prob(distribution, actions)
        steps.append((observations, actions, rewards.where(alive, 0), distribution, log_probs, alive))
        alive = alive & ~done
    seen = Trajectories(*(torch.stack(part, dim=2) for part in zip(*steps, strict=True)))
    # one sum for all numbers: infinities and NaN survive it, and nothing else is compared where all is well
    if not (seen.observations.sum() + seen.distributions.sum() + seen.rewards.sum()).isfinite():
        refuse_not_finite(environment, seen, draws.keys & MASK32)
    return seen


def refuse_not_finite(environment: Environment, seen: Trajectories, index: Tensor) -> None:
    """Refuse the first number that is not finite.

    Args:
        environment: for the message.
        seen: what policies have experienced.
        index: ``[B]`` int64, of the tasks.

    Raises:
        UserError: with what it is, its task and its step.
    """
    name = environment.label or type(environment).__name__
    parts = {
        f"an observation of {name}": ~seen.observations.isfinite().all(dim=-1) & seen.mask,
        "the policy": ~seen.distributions.isfinite().all(dim=-1) & seen.mask,
        f"a reward of {name}": ~seen.rewards.isfinite() & seen.mask,
    }
    found = torch.stack(list(parts.values()))  # [parts, B, n, H]
    if not found.any():
        return  # a sum of finite numbers can overflow
    step = int(found.any(dim=0).any(dim=0).any(dim=0).nonzero()[0])
    part, task, _ = found[..., step].nonzero()[0].tolist()
    what = list(parts)[part]
    remedy = (
        "its learning rates may be too high" if what == "the policy" else "the environment is at fault, not the policy"
    )
    raise UserError(f"{what} is not finite in task {int(index[task])} at step {step}, counted from 0: {remedy}")
