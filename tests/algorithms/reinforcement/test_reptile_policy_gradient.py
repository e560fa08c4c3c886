"""Reptile for policies: its meta-gradient is the displacement, and its outer step never a trust region step."""

import pytest
import torch
from torch.func import grad
from torch.utils._pytree import tree_map

from algorithms.reinforcement.enumerated import episode, tabular_policy
from metalit.algorithms import ReptilePolicyGradient
from metalit.errors import SettingError, UserError
from metalit.networks import MLP, GaussianPolicy
from policies import POLICIES
from small_process import ACTIONS, F64, STATES, random_tables, value


@pytest.mark.parametrize("steps", [1, 3])
def test_the_expected_meta_gradient_is_minus_the_sum_of_exact_policy_gradients(steps):
    tables, rate = random_tables(), 0.7
    path = [torch.randn(STATES, ACTIONS, dtype=F64)]
    for number in range(steps):  # with one step, that is joint training
        scale = 1.0 if number == 0 else 0.5
        path.append(path[-1] + scale * rate * grad(lambda t: value(tables, t))(path[-1]))
    learner = ReptilePolicyGradient(tabular_policy(), inner_lr=rate, inner_steps=steps)
    weight = learner.get_parameter("network.network.weight")
    with torch.no_grad():
        weight.copy_(path[0].T)
    (found,) = torch.autograd.grad(learner.meta_loss(episode(tables, path)), [weight])
    assert found.abs().min() > 1e-6
    torch.testing.assert_close(found.T, path[0] - path[-1], atol=1e-10, rtol=0)


def test_gradient_descent_at_rate_1_moves_to_the_mean_of_the_adapted_policies():
    torch.manual_seed(0)
    case = POLICIES["ReptilePolicyGradient"]
    learner, data = case.make().double(), case.data()
    learner.prepare(data)
    tasks = data.make_stream("train")(0, 4)
    found = learner.experience(tasks._replace(parameters=tasks.parameters.double()), training=True).episode
    meta, steps = learner.tensors(), learner.inner_steps
    ends = [learner.trajectory(meta, tree_map(lambda leaf, b=b: leaf[b], found.support), steps)[-1] for b in range(4)]
    learner.meta_loss(found).backward()
    for name, theta in learner.network.named_parameters():
        mean = torch.stack([end[name] for end in ends]).mean(dim=0)
        assert (mean - theta).abs().max() > 1e-4
        torch.testing.assert_close(theta - theta.grad, mean, atol=1e-12, rtol=0)


def test_trust_region_steps_are_refused():
    with pytest.raises(SettingError, match="no loss that trust region steps could lower") as refused:
        ReptilePolicyGradient(GaussianPolicy(MLP(2, (8,), 2)), max_divergence=0.01)
    assert (refused.value.name, refused.value.value) == ("max_divergence", 0.01)


def test_what_would_never_move_is_refused():
    with pytest.raises(UserError, match="log_std"):
        ReptilePolicyGradient(GaussianPolicy(MLP(2, (8,), 2)), adapted=["network.*"])
    with pytest.raises(SettingError, match="inner_steps is 0"):
        ReptilePolicyGradient(GaussianPolicy(MLP(2, (8,), 2)), inner_steps=0)
