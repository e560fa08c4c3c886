"""Pendulum and cart-pole against gymnasium's own, where it is installed, and against laws of physics everywhere."""

import math

import pytest
import torch

from metalit.environments import CartPole, Pendulum
from metalit.errors import SettingError
from metalit.tasks.keyed_draws import KeyedDraws


def draws(tasks=3):
    return KeyedDraws(torch.arange(tasks), torch.float64)


def numbers(tasks=3):
    return torch.rand(tasks, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def physics_of(parameters, task):
    return {name: value[task].item() for name, value in parameters.items()}


def test_pendulum_moves_as_gymnasiums_does():
    gymnasium = pytest.importorskip("gymnasium", reason="comes with the extra rl")
    environment = Pendulum()
    parameters = environment.parameters(numbers())
    state = environment.begin(parameters, 4, draws())
    actions = 3 * torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for _ in range(50):
        following = environment.step(parameters, state, actions, draws())
        for task, trajectory in ((0, 0), (1, 3), (2, 2)):
            theirs = gymnasium.make("Pendulum-v1").unwrapped
            of_task = physics_of(parameters, task)
            theirs.g, theirs.m, theirs.l = of_task["gravity"], of_task["mass"], of_task["length"]
            theirs.state, theirs.last_u = state[task, trajectory].numpy(), None
            observation, reward, *_ = theirs.step(actions[task, trajectory].numpy())
            assert theirs.state == pytest.approx(following.state[task, trajectory].numpy(), abs=1e-12)
            assert reward == pytest.approx(following.rewards[task, trajectory].item(), abs=1e-12)
            seen = environment.observe(parameters, following.state)[task, trajectory]
            assert observation == pytest.approx(seen.numpy(), abs=1e-6)
        state = following.state


@pytest.mark.parametrize("discrete", [True, False])
def test_cart_pole_moves_as_gymnasiums_does(discrete):
    gymnasium = pytest.importorskip("gymnasium", reason="comes with the extra rl")
    environment = CartPole(discrete=discrete)
    parameters = environment.parameters(numbers())
    state = environment.begin(parameters, 4, draws())
    generator = torch.Generator().manual_seed(1)
    ended = False
    for _ in range(60):
        right = torch.rand(3, 4, generator=generator) < 0.6
        actions = right.long() if discrete else (2.0 * right - 1)[..., None].double() * 3  # clipped to 1
        following = environment.step(parameters, state, actions, draws())
        for task, trajectory in ((0, 0), (1, 3), (2, 2)):
            theirs = gymnasium.make("CartPole-v1").unwrapped
            of_task = physics_of(parameters, task)
            theirs.gravity, theirs.masspole, theirs.length = of_task["gravity"], of_task["mass"], of_task["length"]
            theirs.total_mass, theirs.polemass_length = 1 + theirs.masspole, theirs.masspole * theirs.length
            theirs.state = state[task, trajectory].numpy()
            _, _, terminated, *_ = theirs.step(int(right[task, trajectory]))
            assert theirs.state == pytest.approx(following.state[task, trajectory].numpy(), abs=1e-12)
            assert terminated == following.done[task, trajectory].item()
            ended |= terminated
        state = following.state
    assert ended


def test_a_resting_pendulum_stays_and_a_heavier_one_turns_more_slowly():
    environment = Pendulum(gravity=(0.0, 0.0), mass=(1.0, 2.0), length=(1.0, 1.0))
    parameters = environment.parameters(torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    still = torch.zeros(2, 1, 2)
    assert torch.equal(environment.step(parameters, still, torch.zeros(2, 1, 1), draws(2)).state, still)
    pushed = environment.step(parameters, still, torch.full((2, 1, 1), 5.0), draws(2)).state[..., 1]
    torch.testing.assert_close(pushed[:, 0], torch.tensor([0.05 * 3 * 2.0, 0.05 * 3 * 2.0 / 2]))


def test_begins_depend_on_the_task_alone():
    for environment in (Pendulum(), CartPole()):
        parameters = environment.parameters(numbers())
        together = environment.begin(parameters, 5, draws())
        alone = environment.begin(
            {name: value[2:] for name, value in parameters.items()}, 5, KeyedDraws(torch.tensor([2]), torch.float64)
        )
        assert torch.equal(together[2:], alone)
        assert not torch.equal(together[0], together[1])


def test_physics_are_in_their_ranges():
    parameters = Pendulum(gravity=(1.0, 2.0), mass=(3.0, 4.0), length=(5.0, 6.0)).parameters(
        torch.tensor([[0.0, 0.5, 0.25]])
    )
    assert {name: value.item() for name, value in parameters.items()} == {"gravity": 1.0, "mass": 3.5, "length": 5.25}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Pendulum(length=(0.0, 1.0)), "length"),
        (lambda: CartPole(mass=(2.0, 1.0)), "mass"),
        (lambda: CartPole(gravity=(1.0, math.inf)), "gravity"),
        (lambda: Pendulum(horizon=0), "horizon"),
    ],
)
def test_a_wrong_range_is_refused_by_name(make, name):
    with pytest.raises(SettingError) as caught:
        make()
    assert caught.value.name == name
