"""MuJoCo's robots: rewards of tasks against gymnasium's own robots, and MAML on them through the command line."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from metalit.algorithms.reinforcement.rollouts import roll_out
from metalit.environments import AntDirection, AntVelocity, HalfCheetahDirection, HalfCheetahVelocity
from metalit.main import main
from metalit.networks import GaussianPolicy
from metalit.tasks.keyed_draws import KeyedDraws

gymnasium = pytest.importorskip("gymnasium", reason="needs metalit[rl], which is not installed")
pytest.importorskip("mujoco", reason="needs metalit[rl], which is not installed")
ROOT = Path(__file__).parents[2]
ROBOTS = {
    HalfCheetahVelocity: ("HalfCheetah-v5", lambda v, g, a, info: -abs(v - g) - 0.05 * a),
    HalfCheetahDirection: ("HalfCheetah-v5", lambda v, g, a, info: g * v - 0.05 * a),
    AntVelocity: ("Ant-v5", lambda v, g, a, info: 1 - abs(v - g) + 0.05 - 0.005 * a + info["reward_contact"]),
    AntDirection: ("Ant-v5", lambda v, g, a, info: g * v + 0.05 - 0.005 * a + info["reward_contact"]),
}


def place(robot):
    """The position along x of the torso."""
    return robot.unwrapped.data.body("torso").xpos[0] if "Ant" in robot.spec.id else robot.unwrapped.data.qpos[0]


def draws(index=(0, 1, 2)):
    return KeyedDraws(torch.tensor(index), torch.float64)


def experience(environment, parameters, index=(0, 1, 2)):
    size = environment.action_space.size
    policy = GaussianPolicy(nn.Identity(), actions=size)
    # the same for all observations: a network rounds otherwise for more tasks at once
    blind = lambda observations: observations.new_zeros(*observations.shape[:-1], 2 * size)  # noqa: E731
    return roll_out(environment, policy, blind, parameters, 2, draws(index))


def numbers():
    return torch.tensor([[0.1], [0.9], [0.5]], dtype=torch.float64)


@pytest.mark.parametrize("kind", ROBOTS, ids=lambda kind: kind.__name__)
def test_rewards_are_those_of_the_task(kind):
    robot, formula = ROBOTS[kind]
    environment = kind(horizon=30)
    parameters = environment.parameters(numbers())
    (goals,) = parameters.values()
    seen = experience(environment, parameters)
    theirs = gymnasium.make(robot)
    theirs.reset(seed=int(draws().integers(2)[1, 0]))
    for time in range(int(seen.mask[1, 0].sum())):
        before = place(theirs)
        action = seen.actions[1, 0, time].numpy().clip(-1, 1).astype(np.float32)
        observation, _, terminated, _, info = theirs.step(action)
        velocity = (place(theirs) - before) / theirs.unwrapped.dt
        expected = formula(velocity, goals[1].item(), float(action @ action), info)
        assert seen.rewards[1, 0, time].item() == pytest.approx(expected, abs=1e-6)
        if not terminated and time < 29:
            assert observation == pytest.approx(seen.observations[1, 0, time + 1].numpy(), abs=1e-9)


@pytest.mark.parametrize("kind", [HalfCheetahVelocity, AntDirection], ids=lambda kind: kind.__name__)
def test_tasks_do_not_depend_on_one_another_or_on_the_past(kind):
    environment = kind(horizon=20)
    parameters = environment.parameters(numbers())
    together = experience(environment, parameters)
    again = experience(environment, parameters)
    alone = experience(environment, {name: value[1:2] for name, value in parameters.items()}, index=(1,))
    for one, other, single in zip(together, again, alone, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one[1:2], single)


def test_tasks_are_those_of_the_paper():
    some = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0))
    velocities = HalfCheetahVelocity().parameters(some)["velocity"]
    assert 0 <= velocities.min() < 0.01
    assert 1.99 < velocities.max() < 2
    directions = HalfCheetahDirection().parameters(some)["direction"]
    assert set(directions.tolist()) == {-1.0, 1.0}
    assert abs(directions.mean()) < 0.1


SMALL = {
    "data.init_args.tasks_per_batch": 2,
    "data.init_args.episodes_per_epoch": 6,
    "data.init_args.eval_tasks_per_batch": 2,
    "data.init_args.val_episodes": 2,
    "data.init_args.shots": 2,
    "data.init_args.queries": 2,
    "data.init_args.environment.init_args.horizon": 50,
    "trainer.max_steps": 3,
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
}


@pytest.mark.slow  # 20 seconds
@pytest.mark.parametrize("task", ["velocity", "direction"])
def test_maml_trains_through_the_command_line(task, tmp_path):
    options = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    config = str(ROOT / "configs" / "half_cheetah" / f"maml_{task}.yaml")
    main(["fit", "--config", config, *options, "--run_dir", str(tmp_path)])
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    returns = [float(row["train/return"]) for row in rows if row["train/return"]]
    assert len(returns) == 3
    assert np.isfinite(returns).all()
    assert (tmp_path / "checkpoints" / "best.ckpt").exists()
