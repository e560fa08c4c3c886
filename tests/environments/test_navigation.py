"""2D navigation."""

import torch

from metalit.environments import Navigation
from metalit.tasks.keyed_draws import KeyedDraws

GOALS = torch.tensor([[0.3, -0.2], [-0.4, 0.1]])


def stepped(environment, actions):
    """The transition after one step from the origin."""
    draws = KeyedDraws(torch.arange(2), torch.float32)
    state = environment.begin(GOALS, actions.shape[1], draws)
    return environment.step(GOALS, state, actions, draws)


def test_a_goal_that_is_seen_is_observed_beside_the_position():
    seen, unseen = Navigation(goal_is_seen=True), Navigation()
    after = stepped(seen, torch.full((2, 3, 2), 0.05))
    assert (unseen.observation_size, seen.observation_size) == (2, 4)
    observed = seen.observe(GOALS, after.state)
    torch.testing.assert_close(observed[..., :2], unseen.observe(GOALS, after.state))
    assert torch.equal(observed[..., 2:], GOALS[:, None].expand(2, 3, 2))


def test_velocities_are_clipped_and_the_reward_is_minus_the_distance_after_the_step():
    after = stepped(Navigation(), torch.tensor([[[5.0, -0.05]], [[-0.05, 5.0]]]))
    torch.testing.assert_close(after.state, torch.tensor([[[0.1, -0.05]], [[-0.05, 0.1]]]))
    torch.testing.assert_close(after.rewards, -torch.tensor([[0.25], [0.35]]))
    assert not after.done.any()


def test_a_trajectory_ends_near_the_goal_in_both_coordinates():
    after = stepped(Navigation(goal_radius=0.25), torch.tensor([[[0.1, -0.1]], [[-0.1, 0.1]]]))
    assert after.done.tolist() == [[True], [False]]


def test_sparse_rewards_are_zero_away_from_the_goal():
    after = stepped(Navigation(sparse=True, radius=0.3), torch.tensor([[[0.1, -0.1]], [[-0.1, 0.1]]]))
    torch.testing.assert_close(after.rewards, torch.tensor([[1 - 0.05**0.5 / 0.3], [0.0]]))
