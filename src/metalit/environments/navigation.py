"""Point navigation in the plane (Finn, Abbeel and Levine 2017, section 5.3)."""

import torch
from torch import Tensor

from metalit.environments.base import ActionSpace, Environment, Transition
from metalit.errors import at_least, not_negative, positive
from metalit.tasks.keyed_draws import KeyedDraws


class Navigation(Environment):
    """A point starts at the origin and moves towards a goal, which it does not see.

    Goals are uniform in [-0.5, 0.5]^2 and actions velocities, clipped to [-0.1, 0.1]. The reward is minus the distance
    to the goal after the step. A trajectory ends within 0.01 of the goal, in both coordinates, as in the authors' code.

    Args:
        horizon: H.
        sparse: the reward is 1 minus the distance over ``radius`` within ``radius`` of the goal, and 0 elsewhere.
        radius: of the sparse reward, > 0.
        goal_radius: a trajectory ends within this distance of the goal, >= 0; 0 for trajectories of full length.
        goal_is_seen: the goal is observed beside the position, so that there is nothing to adapt to.

    Raises:
        SettingError: a number is out of range.
    """

    action_space = ActionSpace(2, discrete=False)
    numbers_per_task = 2

    def __init__(
        self,
        horizon: int = 100,
        sparse: bool = False,
        radius: float = 0.2,
        goal_radius: float = 0.01,
        goal_is_seen: bool = False,
    ) -> None:
        at_least(1, horizon=horizon)
        self.goal_is_seen, self.observation_size = goal_is_seen, 4 if goal_is_seen else 2
        self.horizon, self.sparse = horizon, sparse
        self.radius, self.goal_radius = positive("radius", radius), not_negative("goal_radius", goal_radius)

    def parameters(self, numbers: Tensor) -> Tensor:
        """Return goals, ``[B, 2]``."""
        return numbers - 0.5

    def begin(self, parameters: Tensor, trajectories: int, draws: KeyedDraws) -> Tensor:
        """Return positions at the origin, ``[B, n, 2]``."""
        return parameters.new_zeros(len(parameters), trajectories, 2)

    def observe(self, parameters: Tensor, state: Tensor) -> Tensor:
        """Return the positions, ``[B, n, 2]``, or positions and goals, ``[B, n, 4]``."""
        if not self.goal_is_seen:
            return state
        return torch.cat([state, parameters[:, None].expand(state.shape)], dim=-1)

    def step(self, parameters: Tensor, state: Tensor, actions: Tensor, draws: KeyedDraws) -> Transition:
        """Move by the clipped actions ``[B, n, 2]``."""
        state = state + actions.clamp(-0.1, 0.1)
        offsets = state - parameters[:, None]
        distances = offsets.norm(dim=-1)
        near = (1 - distances / self.radius).clamp(min=0)
        done = (offsets.abs() < self.goal_radius).all(dim=-1)
        return Transition(state, near if self.sparse else -distances, done)
