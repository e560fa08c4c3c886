"""Meta-World, where it is installed: tasks of both splits, and trajectories that depend on nothing else."""

import pytest
import torch
from torch import nn

from metalit.algorithms.reinforcement.rollouts import roll_out
from metalit.data import EnvironmentTasks
from metalit.environments import MetaWorld
from metalit.errors import SettingError
from metalit.networks import GaussianPolicy
from metalit.tasks.keyed_draws import KeyedDraws

pytest.importorskip("metaworld", reason="needs metalit[rl], which is not installed")


def experience(environment, parameters, index):
    policy = GaussianPolicy(nn.Identity(), actions=4)
    # the same for all observations: a network rounds otherwise for more tasks at once
    blind = lambda observations: observations.new_zeros(*observations.shape[:-1], 8)  # noqa: E731
    return roll_out(environment, policy, blind, parameters, 2, KeyedDraws(torch.tensor(index), torch.float32))


@pytest.mark.slow  # making 50 + 50 tasks takes seconds
def test_ml1():
    environment = MetaWorld("ML1", "push-v3", horizon=10)
    assert environment.observation_size == 39
    test_tasks = MetaWorld("ML1", "push-v3", split="test", horizon=10)
    tasks = EnvironmentTasks(environment, test_environment=test_tasks, tasks_per_batch=3)
    trained = tasks.make_stream("train")(0, 300).parameters["task"]
    assert set(trained.tolist()) == set(range(50))
    assert set(tasks.make_stream("test")(0, 300).parameters["task"].tolist()) == set(range(50, 100))
    parameters = {"task": torch.tensor([3, 70, 3])}
    together = experience(environment, parameters, (0, 1, 2))
    experience(environment, {"task": torch.tensor([9, 9])}, (3, 4))
    again = experience(environment, parameters, (0, 1, 2))
    alone = experience(environment, {"task": torch.tensor([70])}, (1,))
    for one, other, single in zip(together, again, alone, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one[1:2], single)
    assert not torch.equal(together.rewards[0], together.rewards[1])
    assert (together.observations[..., 36:] == 0).all()  # where the goal would be


@pytest.mark.slow  # making 500 + 250 tasks takes half a minute
def test_ml10():
    environment = MetaWorld("ML10", horizon=5)
    assert len(environment.places) == 500
    parameters = {"task": torch.tensor([0, 499, 700])}
    together = experience(environment, parameters, (0, 1, 2))
    experience(environment, {"task": torch.tensor([120, 0, 560])}, (0, 1, 2))
    for one, other in zip(together, experience(environment, parameters, (0, 1, 2)), strict=True):
        assert torch.equal(one, other)


def test_an_unknown_activity_is_refused():
    with pytest.raises(
        SettingError, match="activity is reach-v2, expected an activity of Meta-World; similar: reach-v3"
    ):
        MetaWorld("ML1", "reach-v2")
