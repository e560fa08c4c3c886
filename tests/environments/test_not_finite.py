"""Numbers that are not finite: who is named, and nothing else is refused."""

import pytest
import torch
from torch import nn

from metalit.algorithms.reinforcement.rollouts import roll_out
from metalit.environments import Environment, Navigation
from metalit.environments.base import ActionSpace, Transition
from metalit.errors import UserError
from metalit.networks import GaussianPolicy
from metalit.tasks.keyed_draws import KeyedDraws

SEED = 5 << 32  # of a learner, in the upper half of its keys


class Spoilt(Environment):
    """Moves like a clock; one number of one trajectory of task 41 is spoilt."""

    observation_size, horizon, numbers_per_task = 1, 6, 1
    action_space = ActionSpace(1, discrete=False)

    def __init__(self, what, value, ends=False):
        self.what, self.value, self.ends = what, value, ends

    def parameters(self, numbers):
        return numbers

    def begin(self, parameters, trajectories, draws):
        return torch.zeros(len(parameters), trajectories, 1)

    def observe(self, parameters, state):
        return state

    def step(self, parameters, state, actions, draws):
        state = state + 1
        rewards = torch.ones_like(state[..., 0])
        spoilt = {"observation": state, "reward": rewards}[self.what]
        if state[0, 0, 0] >= 4:
            spoilt[1, 2] = self.value
        return Transition(state, rewards, (state[..., 0] >= 3) & self.ends)


def roll(environment, policy):
    keys = SEED + torch.tensor([40, 41])
    return roll_out(environment, policy, policy, torch.zeros(2, 2), 3, KeyedDraws(keys, torch.float32))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("what", "step"), [("observation", 4), ("reward", 3)])
def test_the_environment_is_named_with_task_and_step(what, step, value):
    with pytest.raises(UserError, match=f"{what} of Spoilt is not finite in task 41 at step {step}"):
        roll(Spoilt(what, value), GaussianPolicy(nn.Linear(1, 1), actions=1))


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_nothing_matters_after_the_end(what):
    seen = roll(Spoilt(what, float("inf"), ends=True), GaussianPolicy(nn.Linear(1, 1), actions=1))
    assert seen.mask.sum(dim=-1).unique().tolist() == [3]
    assert seen.returns.tolist() == [3, 3]
    assert (seen.observations[:, :, 3:] == 0).all()


def test_a_diverged_policy_is_not_blamed_on_the_environment():
    policy = GaussianPolicy(nn.Linear(2, 2), actions=2)
    nn.init.constant_(policy.network.weight, float("nan"))
    with pytest.raises(UserError, match="the policy is not finite in task 40 at step 0"):
        roll(Navigation(), policy)


def test_large_numbers_are_finite():
    policy = GaussianPolicy(nn.Linear(2, 2), actions=2)
    nn.init.constant_(policy.network.bias, 3e38)  # their sum is infinite
    assert roll(Navigation(horizon=2), policy).mask.all()
