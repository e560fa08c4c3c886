"""Environments of gymnasium: against gymnasium's own loop, and what is refused."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from torch import nn

from metalit.algorithms.reinforcement.rollouts import roll_out
from metalit.environments import GymnasiumEnvironment, HalfCheetahVelocity, MetaWorld
from metalit.errors import SettingError, UserError
from metalit.networks import CategoricalPolicy, GaussianPolicy
from metalit.tasks.keyed_draws import KeyedDraws

gymnasium = pytest.importorskip("gymnasium", reason="needs metalit[rl], which is not installed")
PHYSICS = {"g": (5.0, 15.0), "m": (0.5, 1.5)}


class Countdown(gymnasium.Env):
    """Ends after ``last`` steps, each of which pays the action; counts the calls of ``step``."""

    steps = made = 0

    def __init__(self, last=3.0, actions=None, truncates=False, bad=None):
        Countdown.made += 1
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
        self.action_space = actions or gymnasium.spaces.Box(np.float32(-2), np.float32(6), (1,))
        self.last, self.truncates, self.bad = last, truncates, bad
        self.masses = np.array([1.0, 2.0])
        self.given = None

    def set_task(self, task):
        self.last = task["last"]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.seen(), {}

    def step(self, action):
        Countdown.steps += 1
        self.time += 1
        self.given = action
        over = self.time >= self.last
        reward = float("nan") if self.bad == "reward" and self.time == 3 else float(np.sum(action))
        return self.seen(), reward, over and not self.truncates, over and self.truncates, {}

    def seen(self):
        bad = self.bad == "observation" and self.time == 2
        return np.array([np.nan if bad else self.time, self.masses[1]], np.float32)


def draws(index=(0, 1, 2), dtype=torch.float64):
    return KeyedDraws(torch.tensor(index), dtype)


def numbers(tasks=3, count=2):
    return torch.rand(tasks, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def policy_of(environment, seed=0):
    torch.manual_seed(seed)
    if environment.action_space.discrete:
        return CategoricalPolicy(nn.Linear(environment.observation_size, environment.action_space.size)).double()
    size = environment.action_space.size
    return GaussianPolicy(nn.Linear(environment.observation_size, size), actions=size).double()


def experience(environment, parameters, index=(0, 1, 2), trajectories=2):
    policy = policy_of(environment)
    return roll_out(environment, policy, policy, parameters, trajectories, draws(index))


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_trajectories_are_those_of_gymnasiums_own_loop():
    environment = GymnasiumEnvironment("Pendulum-v1", PHYSICS, horizon=20)
    parameters = environment.parameters(numbers())
    seen = experience(environment, parameters)
    seeds = draws().integers(2)
    for task, trajectory in ((0, 0), (1, 1), (2, 0)):
        theirs = gymnasium.make("Pendulum-v1")
        theirs.unwrapped.g, theirs.unwrapped.m = (parameters[name][task].item() for name in ("g", "m"))
        observation, _ = theirs.reset(seed=int(seeds[task, trajectory]))
        for time in range(20):
            assert observation == pytest.approx(seen.observations[task, trajectory, time].numpy(), abs=1e-7)
            action = (2 * seen.actions[task, trajectory, time].numpy()).clip(-2, 2).astype(np.float32)
            observation, reward, *_ = theirs.step(action)
            assert reward == pytest.approx(seen.rewards[task, trajectory, time].item(), abs=1e-9)


def test_the_time_limit_is_the_horizon():
    assert GymnasiumEnvironment("Pendulum-v1", PHYSICS).horizon == 200
    longer = GymnasiumEnvironment("Pendulum-v1", PHYSICS, horizon=201)
    assert experience(longer, longer.parameters(numbers())).mask.all()


def test_same_seeds_same_trajectories_and_tasks_do_not_depend_on_one_another():
    environment = GymnasiumEnvironment("Pendulum-v1", PHYSICS, horizon=15)
    parameters = environment.parameters(numbers())
    together = experience(environment, parameters)
    experience(environment, environment.parameters(numbers(7)), tuple(range(7)))  # others in between, and more of them
    assert equal(together, experience(environment, parameters))
    alone = experience(environment, {name: value[2:] for name, value in parameters.items()}, index=(2,))
    assert equal([part[2:] for part in together], alone)
    others = experience(environment, parameters, index=(0, 1, 3))
    assert not torch.equal(together.rewards[2], others.rewards[2])


@pytest.mark.slow  # starts processes
def test_workers_change_nothing_and_end():
    here = GymnasiumEnvironment("Pendulum-v1", PHYSICS, horizon=10)
    spread = GymnasiumEnvironment("Pendulum-v1", PHYSICS, horizon=10, workers=2)
    parameters = here.parameters(numbers(5))
    index = tuple(range(5))
    # 15 trajectories do not divide into two equal shares
    assert equal(experience(here, parameters, index, 3), experience(spread, parameters, index, 3))
    workers = spread._vector.processes
    assert len(workers) == 2
    assert all(worker.is_alive() for worker in workers)
    spread.close()
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize(
    "settings",
    [{"set_by": "attribute"}, {"set_by": "keyword"}, {"set_by": "method"}],
    ids=lambda settings: settings["set_by"],
)
def test_a_trajectory_ends_when_it_terminates_and_takes_no_more_steps(settings):
    environment = GymnasiumEnvironment(Countdown, choices={"last": [2.0, 5.0]}, horizon=8, **settings)
    parameters = environment.parameters(torch.tensor([[0.1], [0.9]], dtype=torch.float64))
    assert parameters["last"].tolist() == [2.0, 5.0]
    Countdown.steps = 0
    seen = experience(environment, parameters, (0, 1))
    assert seen.mask.sum(dim=-1).tolist() == [[2, 2], [5, 5]]
    assert Countdown.steps == 2 * (2 + 5)
    assert (seen.rewards[0, :, 2:] == 0).all()
    assert equal(seen, experience(environment, parameters, (0, 1)))


def test_a_parameter_may_be_an_entry_of_an_array():
    environment = GymnasiumEnvironment(Countdown, {"masses.1": (3.0, 5.0)}, horizon=2)
    parameters = environment.parameters(torch.tensor([[0.0], [0.5]], dtype=torch.float64))
    assert experience(environment, parameters, (0, 1)).observations[:, 0, 0, 1].tolist() == [3.0, 4.0]


def test_truncation_before_the_horizon_is_an_error_unless_it_is_an_end():
    settings = {"choices": {"last": [4.0]}, "settings": {"truncates": True}}
    environment = GymnasiumEnvironment(Countdown, horizon=6, **settings)
    with pytest.raises(UserError, match="Countdown truncated a trajectory after 4 of 6 steps: set horizon to 4"):
        experience(environment, environment.parameters(numbers(3, 1)))
    environment = GymnasiumEnvironment(Countdown, horizon=6, truncation="end", **settings)
    assert experience(environment, environment.parameters(numbers(3, 1))).mask.sum(dim=-1).unique().tolist() == [4]
    environment = GymnasiumEnvironment(Countdown, horizon=4, **settings)
    assert experience(environment, environment.parameters(numbers(3, 1))).mask.all()


@pytest.mark.parametrize(("rescale", "expected"), [(True, [2.0, 6.0, -2.0, 6.0]), (False, [0.0, 1.0, -1.0, 6.0])])
def test_actions_are_mapped_and_clipped_to_their_bounds(rescale, expected):
    environment = GymnasiumEnvironment(Countdown, {"last": (9.0, 9.0)}, horizon=9, rescale=rescale)
    parameters = environment.parameters(numbers(1, 1))
    state = environment.begin(parameters, 4, draws((0,)))
    actions = torch.tensor([0.0, 1.0, -1.0, 9.0]).reshape(1, 4, 1)
    assert environment.step(parameters, state, actions, draws((0,))).rewards[0].tolist() == expected


def test_discrete_actions_begin_where_the_environments_do():
    actions = gymnasium.spaces.Discrete(3, start=5)
    environment = GymnasiumEnvironment(Countdown, {"last": (9.0, 9.0)}, settings={"actions": actions}, horizon=9)
    assert environment.action_space == (3, True)
    parameters = environment.parameters(numbers(1, 1))
    state = environment.begin(parameters, 3, draws((0,)))
    after = environment.step(parameters, state, torch.tensor([[0, 1, 2]]), draws((0,)))
    assert after.rewards.tolist() == [[5.0, 6.0, 7.0]]
    assert experience(environment, parameters, (0,)).mask.all()


def test_only_the_newest_state_can_be_stepped():
    environment = GymnasiumEnvironment("Pendulum-v1", PHYSICS)
    parameters = environment.parameters(numbers())
    state = environment.begin(parameters, 2, draws())
    actions = torch.zeros(3, 2, 1)
    environment.step(parameters, state, actions, draws())
    with pytest.raises(AssertionError, match="newest state"):
        environment.step(parameters, state, actions, draws())


@pytest.mark.parametrize("set_by", ["attribute", "keyword"])
def test_environments_are_used_again(set_by):
    environment = GymnasiumEnvironment(Countdown, {"last": (2.0, 5.0)}, horizon=5, set_by=set_by)
    parameters = environment.parameters(numbers(3, 1))
    experience(environment, parameters)
    before = Countdown.made
    experience(environment, parameters)
    assert Countdown.made == before


def test_a_running_environment_can_be_copied_and_pickled():
    environment = GymnasiumEnvironment("Pendulum-v1", PHYSICS, horizon=5)
    parameters = environment.parameters(numbers())
    seen = experience(environment, parameters)
    for other in (copy.deepcopy(environment), pickle.loads(pickle.dumps(environment))):
        assert equal(seen, experience(other, parameters))


@pytest.mark.parametrize("bad", ["reward", "observation"])
def test_a_number_that_is_not_finite_is_named_with_task_and_step(bad):
    environment = GymnasiumEnvironment(Countdown, {"last": (9.0, 9.0)}, settings={"bad": bad}, horizon=9)
    Countdown.steps = 0
    message = rf"{bad} of GymnasiumEnvironment \(Countdown\) is not finite in task 70 at step 2"
    with pytest.raises(UserError, match=message):
        experience(environment, environment.parameters(numbers(2, 1)), index=(70, 71))
    assert Countdown.steps <= 3 * 4  # nothing is asked of them with actions that are not finite either


def test_a_diverged_policy_reaches_no_environment():
    environment = GymnasiumEnvironment(Countdown, {"last": (9.0, 9.0)}, horizon=9)
    Countdown.steps = 0
    policy = policy_of(environment)
    nn.init.constant_(policy.network.bias, float("nan"))
    with pytest.raises(UserError, match="the policy is not finite in task 0 at step 0"):
        roll_out(environment, policy, policy, environment.parameters(numbers(3, 1)), 2, draws())
    assert Countdown.steps == 0


def made(environment="Pendulum-v1", parameters=None, **settings):
    return lambda: GymnasiumEnvironment(
        environment, {"g": (1.0, 2.0)} if parameters is None else parameters, **settings
    )


REFUSED = {
    "unknown id": (made("Pendulun-v1"), "no environment Pendulun-v1; similar: Pendulum-v1"),
    "unknown version": (made("Pendulum-v9"), "no environment Pendulum-v9; similar: Pendulum-v1"),
    "unknown attribute": (made(parameters={"gg": (1.0, 2.0)}), "Pendulum-v1 has no attribute gg; similar: g"),
    "nothing similar": (made(parameters={"mass": (1.0, 2.0)}), "has no attribute mass; its numbers: dt, g, "),
    "no number": (made(parameters={"render_mode": (1.0, 2.0)}), "attribute render_mode of Pendulum-v1 is None"),
    "unknown path": (made(Countdown, {"masses.7": (1.0, 2.0)}, horizon=2), "Countdown has no attribute masses.7"),
    "unknown method": (made(set_by="method"), "Pendulum-v1 has no method set_task"),
    "unknown keyword": (made(parameters={"h": (1.0, 2.0)}, set_by="keyword"), "Pendulum-v1 has no such keyword"),
    "keyword of a class": (
        made(Countdown, {"lost": (1.0, 2.0)}, set_by="keyword", horizon=2),
        "Countdown has no keyword lost; similar: last",
    ),
    "actions": (
        made(Countdown, {"last": (1.0, 2.0)}, settings={"actions": gymnasium.spaces.MultiBinary(2)}, horizon=2),
        "actions of Countdown are MultiBinary, expected Box or Discrete",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_message(name):
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (made(parameters={}), "parameters"),
        (made(parameters={"g": (2.0, 1.0)}), "g"),
        (made(choices={"m": []}), "choices"),
        (made(Countdown, {"last": (1.0, 2.0)}), "horizon"),
        (made(horizon=0), "horizon"),
        (made(workers=-1), "workers"),
        (made(truncation="stop"), "truncation"),
        (lambda: MetaWorld(horizon=501), "horizon"),
    ],
)
def test_refused_setting(make, setting):
    with pytest.raises(SettingError) as caught:
        make()
    assert caught.value.name == setting


@pytest.mark.parametrize("missing", ["gymnasium", "mujoco"])
def test_a_missing_package_names_the_extra(missing, monkeypatch):
    if missing == "mujoco":
        pytest.importorskip("mujoco", reason="needs metalit[rl], which is not installed")
        for name in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"not installed .*pip install 'metalit\[rl\]'"):
        HalfCheetahVelocity()
