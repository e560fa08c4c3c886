"""Mistakes in environments end a command with code 2 and one message."""

import math
import re
import sys

import pytest
import torch

from commands import complaint, write_yaml
from metalit.environments import Environment
from metalit.environments.base import ActionSpace, Transition
from metalit.main import main

PENDULUM = {"environment": "Pendulum-v1", "parameters": {"g": [5.0, 15.0]}}


class Treacherous(Environment):
    """Rewards the fourth step with NaN."""

    observation_size, horizon, numbers_per_task = 3, 5, 1
    action_space = ActionSpace(1, discrete=False)

    def parameters(self, numbers):
        return numbers

    def begin(self, parameters, trajectories, draws):
        return torch.zeros(len(parameters), trajectories, 3)

    def observe(self, parameters, state):
        return state

    def step(self, parameters, state, actions, draws):
        state = state + 1
        rewards = state[..., 0].where(state[..., 0] != 4, math.nan)
        return Transition(state, rewards, torch.zeros_like(rewards, dtype=torch.bool))


def config(environment):
    if "class_path" not in environment:
        environment = {"class_path": "metalit.environments.GymnasiumEnvironment", "init_args": environment}
    network = {"class_path": "metalit.networks.MLP", "init_args": {"inputs": 3, "hidden": [4], "outputs": 1}}
    policy = {"class_path": "metalit.networks.GaussianPolicy", "init_args": {"actions": 1, "network": network}}
    tasks = {"environment": environment, "shots": 2, "queries": 2, "tasks_per_batch": 2, "episodes_per_epoch": 2}
    return {
        "model": {"class_path": "metalit.algorithms.MAMLPolicyGradient", "init_args": {"network": policy}},
        "data": {"class_path": "metalit.data.EnvironmentTasks", "init_args": {**tasks, "val_episodes": 2}},
        "trainer": {"max_steps": 1, "log_every_n_steps": 1, "enable_progress_bar": False},
        "checkpoint": {"monitor": "val/return", "mode": "max"},
    }


def refused(environment, folder, capsys):
    path = write_yaml(folder / "c.yaml", config(environment))
    return complaint(capsys, lambda: main(["fit", "--config", str(path), "--run_dir", str(folder / "run")]))


MISTAKES = {
    "without parameters": (PENDULUM | {"parameters": {}}, "environment.parameters is {}, expected at least one"),
    "unknown id": (PENDULUM | {"environment": "Pendulun-v1"}, "no environment Pendulun-v1; similar: Pendulum-v1"),
    "unknown parameter": (PENDULUM | {"parameters": {"gg": [1.0, 2.0]}}, "Pendulum-v1 has no attribute gg; similar: g"),
    "endless": (
        PENDULUM | {"environment": "test_cli_endless:EndlessPendulum-v0"},
        "horizon is None, expected a number of steps: test_cli_endless:EndlessPendulum-v0 has no time limit",
    ),
    "wrong type": (PENDULUM | {"horizon": "long"}, "horizon"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_gymnasiums_environment(name, tmp_path, capsys, monkeypatch):
    pytest.importorskip("gymnasium", reason="needs metalit[rl], which is not installed")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "test_cli_endless.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "gymnasium.register('EndlessPendulum-v0', entry_point=PendulumEnv)\n"
    )
    environment, words = MISTAKES[name]
    said = refused(environment, tmp_path, capsys)
    assert words in said, said


def test_discrete_actions_with_a_gaussian_policy(tmp_path, capsys):
    environment = {"class_path": "metalit.environments.CartPole", "init_args": {"discrete": True}}
    assert "actions of CartPole are discrete" in refused(environment, tmp_path, capsys)


def test_a_reward_that_is_not_finite(tmp_path, capsys):
    sys.modules["treacherous"] = sys.modules[__name__]  # a name that can be imported, whatever pytest calls this file
    said = refused({"class_path": "treacherous.Treacherous"}, tmp_path, capsys)
    assert re.search(r"a reward of Treacherous is not finite in task 0 at step 3", said), said


def test_a_missing_package_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)  # as if it were not installed
    said = refused({"class_path": "metalit.environments.HalfCheetahVelocity"}, tmp_path, capsys)
    assert "HalfCheetahVelocity needs packages that are not installed" in said
    assert "pip install 'metalit[rl]'" in said
