"""Environment steps per second: metalit's rollouts against other loops over the same environments, one policy for all.

    python benchmarks/environment_steps.py

2D navigation against a loop in Python over its environments: one numpy step for each, and the policy once for all of
them (the usual vector environment), or once for each of them. With ``pip install 'metalit[rl]'`` also
HalfCheetahVelocity against gymnasium's ``SyncVectorEnv`` of HalfCheetah-v5, without gymnasium's checks and copies. The
policy has two hidden layers of 100 units; actions are drawn from it. All loops run in one process and take turns; a
ratio compares the two of one round by processor time, which other programs disturb less than the time that passes.
Trajectories never end early.
"""

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metalit.algorithms.reinforcement.rollouts import roll_out
from metalit.environments import Environment, HalfCheetahVelocity, Navigation
from metalit.networks import GaussianPolicy
from metalit.tasks.keyed_draws import KeyedDraws

Loop = Callable[[], object]


def policy_for(observations: int, actions: int) -> GaussianPolicy:
    """Return the policy of the configs."""
    torch.manual_seed(0)
    layers = nn.Linear(observations, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, actions)
    return GaussianPolicy(nn.Sequential(*layers), actions=actions)


@torch.no_grad()
def act(policy: GaussianPolicy, observations: Tensor) -> NDArray[np.float32]:
    """Return actions drawn for observations ``[N, S]``."""
    mean, log_std = policy(observations).chunk(2, dim=-1)
    actions: NDArray[np.float32] = (mean + log_std.exp() * torch.randn_like(mean)).numpy()
    return actions


def ours(environment: Environment, policy: GaussianPolicy, tasks: int, trajectories: int) -> Loop:
    """Return metalit's rollouts."""
    parameters = environment.parameters(torch.rand(tasks, environment.numbers_per_task))

    def loop() -> object:
        draws = KeyedDraws(torch.arange(tasks), torch.float32)
        return roll_out(environment, policy, policy, parameters, trajectories, draws)

    return loop


class Point:
    """2D navigation as one usually writes it."""

    def __init__(self, goal: NDArray[np.float64]) -> None:
        self.goal, self.position = goal, np.zeros(2)

    def reset(self) -> NDArray[np.float64]:
        """Return to the origin."""
        self.position = np.zeros(2)
        return self.position

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
        """Return position and reward after one step."""
        self.position = self.position + np.clip(action, -0.1, 0.1)
        return self.position, -float(np.linalg.norm(self.position - self.goal))


def python_loop(policy: GaussianPolicy, number: int, horizon: int) -> Loop:
    """Return a loop over points, with one call of the policy for all of them."""
    points = [Point(np.random.default_rng(place).uniform(-0.5, 0.5, 2)) for place in range(number)]

    def loop() -> object:
        positions, rewards = np.stack([point.reset() for point in points]), []
        for _ in range(horizon):
            actions = act(policy, torch.from_numpy(positions).float())
            results = [point.step(action) for point, action in zip(points, actions, strict=True)]
            positions = np.stack([position for position, _ in results])
            rewards.append([reward for _, reward in results])
        return rewards

    return loop


def one_by_one(policy: GaussianPolicy, number: int, horizon: int) -> Loop:
    """Return a loop over points, with one call of the policy for each of them."""
    points = [Point(np.random.default_rng(place).uniform(-0.5, 0.5, 2)) for place in range(number)]

    def loop() -> object:
        rewards = []
        for point in points:
            position = point.reset()
            for _ in range(horizon):
                position, reward = point.step(act(policy, torch.from_numpy(position)[None].float())[0])
                rewards.append(reward)
        return rewards

    return loop


def gymnasiums(policy: GaussianPolicy, number: int, horizon: int) -> Loop:
    """Return gymnasium's vector loop over half-cheetahs."""
    import gymnasium

    def make() -> Any:
        return gymnasium.make("HalfCheetah-v5", disable_env_checker=True, max_episode_steps=-1)

    environments = gymnasium.vector.SyncVectorEnv([make] * number, copy=False)

    def loop() -> object:
        observations, _ = environments.reset(seed=0)
        seen = []
        for _ in range(horizon):
            inputs = torch.tensor(observations, dtype=torch.float32)
            actions = act(policy, inputs)
            observations, rewards, *_ = environments.step(actions)
            seen.append((inputs, actions, rewards))
        return seen

    return loop


def compare(title: str, steps: int, loops: dict[str, Loop], rounds: int) -> None:
    """Print steps per second of all loops, and the ratio of the first to each of the others."""
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, loop in loops.items():
            start = time.process_time()
            loop()
            if number > 0:  # the first makes the environments
                rates[name].append(steps / (time.process_time() - start))
    print(f"{title}, {steps:,} steps, {rounds} rounds")
    for name, values in rates.items():
        print(f"  {name}: {median(values):,.0f} steps per CPU-second")
    first, *others = rates
    for name in others:
        ratios = [one / other for one, other in zip(rates[first], rates[name], strict=True)]
        print(f"  {first} / {name}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """Compare in both environments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--trajectories", type=int, default=20, help="of each task")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few and short trajectories: does it run?")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tasks, trajectories, rounds = (2, 2, 2) if options.quick else (options.tasks, options.trajectories, options.rounds)
    number, horizon = tasks * trajectories, 5 if options.quick else 100
    policy = policy_for(2, 2)
    loops = {
        "metalit": ours(Navigation(horizon, goal_radius=0), policy, tasks, trajectories),
        "policy once for all": python_loop(policy, number, horizon),
        "policy once for each": one_by_one(policy, number, horizon),
    }
    compare("2D navigation", number * horizon, loops, rounds)
    if find_spec("gymnasium") is None or find_spec("mujoco") is None:
        return
    policy = policy_for(17, 6)
    loops = {
        "metalit": ours(HalfCheetahVelocity(horizon=horizon), policy, tasks, trajectories),
        "gymnasium": gymnasiums(policy, number, horizon),
    }
    compare("half-cheetah", number * horizon, loops, rounds)


if __name__ == "__main__":
    main()
