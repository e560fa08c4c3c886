"""A pendulum to be swung up, the equations of gymnasium's Pendulum-v1, with physics that differ between tasks."""

import math

import torch
from torch import Tensor

from metalit.environments.base import ActionSpace, Environment, Transition
from metalit.environments.ranges import Range, checked_ranges, within
from metalit.errors import at_least
from metalit.tasks.keyed_draws import KeyedDraws

MAX_SPEED, MAX_TORQUE, SECONDS = 8.0, 2.0, 0.05  # SECONDS: of one time step


class Pendulum(Environment):
    """A rod that hangs from a pivot and is to be held upright, by a torque that is too weak to lift it at once.

    An observation is the cosine and sine of the angle from upright, and the angular velocity. The reward is
    -(angle^2 + 0.1 velocity^2 + 0.001 torque^2), with the angle in [-pi, pi], before the step. Trajectories begin at
    any angle with a velocity in [-1, 1], and never end early. Torques are clipped to [-2, 2].

    Args:
        gravity: range of a task's gravity, m/s^2.
        mass: range of the rod's mass, > 0, kg.
        length: range of the rod's length, > 0, m.
        horizon: H.

    Raises:
        SettingError: a number or range is invalid.
    """

    observation_size = 3
    action_space = ActionSpace(1, discrete=False)
    numbers_per_task = 3

    def __init__(
        self,
        gravity: Range = (8.0, 12.0),
        mass: Range = (0.5, 1.5),
        length: Range = (0.7, 1.3),
        horizon: int = 200,
    ) -> None:
        at_least(1, horizon=horizon)
        self.horizon = horizon
        self.ranges = checked_ranges({"gravity": gravity}) | checked_ranges({"mass": mass, "length": length}, least=0)

    def parameters(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return ``gravity``, ``mass`` and ``length``, each ``[B]``."""
        return within(numbers, self.ranges)

    def begin(self, parameters: dict[str, Tensor], trajectories: int, draws: KeyedDraws) -> Tensor:
        """Return angle and angular velocity, ``[B, n, 2]``."""
        numbers = 2 * draws.uniform(trajectories, 2) - 1
        return numbers * numbers.new_tensor([math.pi, 1.0])

    def observe(self, parameters: dict[str, Tensor], state: Tensor) -> Tensor:
        """Return cosine, sine and velocity, ``[B, n, 3]``."""
        angle, velocity = state.unbind(dim=-1)
        return torch.stack([angle.cos(), angle.sin(), velocity], dim=-1)

    def step(self, parameters: dict[str, Tensor], state: Tensor, actions: Tensor, draws: KeyedDraws) -> Transition:
        """Apply torques ``[B, n, 1]`` for 0.05 s."""
        gravity, mass, length = (parameters[name][:, None] for name in ("gravity", "mass", "length"))
        angle, velocity = state.unbind(dim=-1)
        torque = actions[..., 0].clamp(-MAX_TORQUE, MAX_TORQUE)
        from_upright = (angle + math.pi) % (2 * math.pi) - math.pi
        rewards = -(from_upright**2 + 0.1 * velocity**2 + 0.001 * torque**2)
        acceleration = 3 * gravity / (2 * length) * angle.sin() + 3 / (mass * length**2) * torque
        velocity = (velocity + SECONDS * acceleration).clamp(-MAX_SPEED, MAX_SPEED)
        state = torch.stack([angle + SECONDS * velocity, velocity], dim=-1)
        return Transition(state, rewards, torch.zeros_like(rewards, dtype=torch.bool))
