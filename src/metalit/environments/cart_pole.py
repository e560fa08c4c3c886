"""A pole on a cart, the equations of gymnasium's CartPole-v1, with physics that differ between tasks."""

import math

import torch
from torch import Tensor

from metalit.environments.base import ActionSpace, Environment, Transition
from metalit.environments.ranges import Range, checked_ranges, within
from metalit.errors import at_least
from metalit.tasks.keyed_draws import KeyedDraws

MASS_OF_CART, FORCE, SECONDS = 1.0, 10.0, 0.02  # kg, N, and s of one time step
FARTHEST, STEEPEST = 2.4, 12 * math.pi / 180


class CartPole(Environment):
    """A pole is to be balanced on a cart by pushing the cart; each step is rewarded with 1.

    An observation is position and velocity of the cart, and angle and angular velocity of the pole. A trajectory begins
    with each in [-0.05, 0.05], and ends when the cart is further than 2.4 m away or the pole leans by more than 12
    degrees.

    Args:
        gravity: range of a task's gravity, m/s^2.
        mass: range of the pole's mass, > 0, kg; the cart's is 1.
        length: range of half the pole's length, > 0, m.
        horizon: H.
        discrete: push by 10 N to the left (0) or right (1); otherwise by 10 N times an action, clipped to [-1, 1].

    Raises:
        SettingError: a number or range is invalid.
    """

    observation_size = 4
    numbers_per_task = 3

    def __init__(
        self,
        gravity: Range = (6.0, 14.0),
        mass: Range = (0.05, 0.5),
        length: Range = (0.25, 1.0),
        horizon: int = 200,
        discrete: bool = False,
    ) -> None:
        at_least(1, horizon=horizon)
        self.horizon = horizon
        self.action_space = ActionSpace(2, discrete=True) if discrete else ActionSpace(1, discrete=False)
        self.ranges = checked_ranges({"gravity": gravity}) | checked_ranges({"mass": mass, "length": length}, least=0)

    def parameters(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return ``gravity``, ``mass`` and ``length``, each ``[B]``."""
        return within(numbers, self.ranges)

    def begin(self, parameters: dict[str, Tensor], trajectories: int, draws: KeyedDraws) -> Tensor:
        """Return position, velocity, angle and angular velocity, ``[B, n, 4]``."""
        return 0.1 * draws.uniform(trajectories, 4) - 0.05

    def observe(self, parameters: dict[str, Tensor], state: Tensor) -> Tensor:
        """Return the state, ``[B, n, 4]``."""
        return state

    def step(self, parameters: dict[str, Tensor], state: Tensor, actions: Tensor, draws: KeyedDraws) -> Transition:
        """Push for 0.02 s, by actions ``[B, n, 1]`` or ``[B, n]`` int64."""
        gravity, mass, length = (parameters[name][:, None] for name in ("gravity", "mass", "length"))
        share = 2.0 * actions - 1 if self.action_space.discrete else actions[..., 0].clamp(-1, 1)
        position, velocity, angle, turning = state.unbind(dim=-1)
        total = mass + MASS_OF_CART
        push = (FORCE * share + mass * length * turning**2 * angle.sin()) / total
        bend = length * (4 / 3 - mass * angle.cos() ** 2 / total)
        angular = (gravity * angle.sin() - angle.cos() * push) / bend
        linear = push - mass * length * angular * angle.cos() / total
        # the positions move by the velocities before the step
        changes = torch.stack([velocity, linear, turning, angular], dim=-1)
        state = state + SECONDS * changes
        done = (state[..., 0].abs() > FARTHEST) | (state[..., 2].abs() > STEEPEST)
        return Transition(state, torch.ones_like(position), done)
