"""Meta-SGD for policies against the exact derivative of the return after adaptation, and against MAML."""

import pytest
import torch
from torch.func import grad

from algorithms.reinforcement.enumerated import episode, tabular_policy
from metalit.algorithms import MAMLPolicyGradient, MetaSGDPolicyGradient
from metalit.data import EnvironmentTasks
from metalit.environments import Navigation
from metalit.errors import UserError
from metalit.networks import MLP, GaussianPolicy
from small_process import ACTIONS, F64, STATES, random_tables, value

WEIGHT = "network.network.weight"
RATES = "update_rule.rates.network/weight"


def adapted(tables, theta, rates, steps):
    """The exact path of a policy by gradient ascent with a rate for each logit, halved from the second step on."""
    path = [theta]
    for number in range(steps):
        scale = 1.0 if number == 0 else 0.5
        path.append(path[-1] + scale * rates * grad(lambda t: value(tables, t))(path[-1]))
    return path


def learner_with(theta, rates, **settings):
    learner = MetaSGDPolicyGradient(tabular_policy(), **settings)
    with torch.no_grad():
        learner.get_parameter(WEIGHT).copy_(theta.T)
        learner.get_parameter(RATES).copy_(rates.T)
    return learner


def found_and_exact(surrogate, steps):
    """The expected meta-gradients with respect to policy and rates, by the learner and by the exact return."""
    tables = random_tables()
    theta, rates = torch.randn(STATES, ACTIONS, dtype=F64), torch.rand(STATES, ACTIONS, dtype=F64) + 0.2
    learner = learner_with(theta, rates, surrogate=surrogate, inner_steps=steps)
    task = episode(tables, adapted(tables, theta, rates, steps))
    parameters = learner.get_parameter(WEIGHT), learner.get_parameter(RATES)
    found = torch.autograd.grad(learner.meta_loss(task), parameters)
    exact = grad(lambda t, r: -value(tables, adapted(tables, t, r, steps)[-1]), argnums=(0, 1))(theta, rates)
    return [each.T for each in found], exact


@pytest.mark.parametrize("steps", [1, 2])
def test_the_expected_meta_gradient_of_policy_and_rates_is_the_analytic_one(steps):
    found, exact = found_and_exact("dice", steps)
    assert all(each.abs().min() > 1e-6 for each in exact)
    torch.testing.assert_close(found[0], exact[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(found[1], exact[1], atol=1e-10, rtol=0)


def test_the_naive_surrogate_is_right_for_the_rates_of_one_step_alone():
    # one step is linear in the rates: their derivative needs no second derivative of the surrogate
    found, exact = found_and_exact("score", steps=1)
    torch.testing.assert_close(found[1], exact[1], atol=1e-10, rtol=0)
    assert (found[0] - exact[0]).abs().max() > 1e-3
    found, exact = found_and_exact("score", steps=2)
    assert (found[1] - exact[1]).abs().max() > 1e-6


def in_navigation(algorithm, **settings):
    torch.manual_seed(0)
    learner = algorithm(GaussianPolicy(MLP(inputs=2, hidden=(8,), outputs=2)), **settings).double()
    data = EnvironmentTasks(Navigation(horizon=8), shots=4, queries=5, tasks_per_batch=3)
    learner.prepare(data)
    tasks = data.make_stream("train")(0, 3)
    return learner, tasks._replace(parameters=tasks.parameters.double())


def test_with_constant_rates_it_is_maml():
    of = {}
    for algorithm in (MAMLPolicyGradient, MetaSGDPolicyGradient):
        learner, tasks = in_navigation(algorithm, inner_lr=0.25, inner_steps=2)  # which float32 has exactly
        task = learner.experience(tasks, training=True)
        network = dict(learner.network.named_parameters())
        of[algorithm] = task.returns, torch.autograd.grad(learner.meta_loss(task.episode), list(network.values()))
    torch.testing.assert_close(of[MetaSGDPolicyGradient], of[MAMLPolicyGradient], atol=1e-12, rtol=0)


def test_a_trust_region_step_moves_every_rate_within_the_bound():
    learner, tasks = in_navigation(MetaSGDPolicyGradient, inner_lr=0.3)
    optimizer = learner.configure_optimizers()

    def closure():
        optimizer.zero_grad()
        loss = learner.meta_loss(learner.gathered(tasks))
        loss.backward()
        return loss

    before = {name: value.detach().clone() for name, value in learner.named_parameters()}
    optimizer.step(closure)
    assert optimizer.last["step_length"] > 0
    assert 0 < optimizer.last["divergence"] <= 0.01
    rates = [name for name in before if name.startswith("update_rule")]
    assert len(rates) == len(before) / 2
    assert all((learner.get_parameter(name) != before[name]).any() for name in rates)


def test_rates_are_drawn_between_bounds_and_belong_to_what_adapts():
    head = ["network.layers.2.*"]
    learner = MetaSGDPolicyGradient(GaussianPolicy(MLP(2, (8,), 2)), inner_lr=(0.1, 0.5), adapted=head)
    rates = torch.cat([value.flatten() for value in learner.update_rule.parameters()])
    assert len(rates) == 8 * 2 + 2
    assert 0.1 <= rates.min() < rates.max() <= 0.5
    with pytest.raises(UserError, match="inner_lr"):
        MetaSGDPolicyGradient(GaussianPolicy(MLP(2, (8,), 2)), inner_lr=0.0)
