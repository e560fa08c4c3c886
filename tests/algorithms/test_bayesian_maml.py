"""Bayesian MAML (authors' code: jsikyoon/bmaml at 10ef3e5, bmaml.py, ``update_particle`` and ``fast_learn_one_task``).

https://github.com/jsikyoon/bmaml/blob/10ef3e5dc288d0d8e18e46bcad99da1e7c114605/bmaml.py
"""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from metalit import MAML, Episode, Labelled
from metalit.algorithms import BayesianMAML
from metalit.algorithms.probabilistic.bayesian_maml import in_a_row
from metalit.functional.stein import stein_direction
from metalit.networks import MLP, Classifier, Conv4
from metalit.objectives import ChaserLoss, QueryLoss
from metalit.tasks import scope


def make(network=None, **settings):
    torch.manual_seed(0)
    return BayesianMAML(network or MLP(hidden=(6,)), **({"inner_lr": 0.1, "particles": 3} | settings)).double()


@pytest.fixture
def episode():
    torch.manual_seed(1)
    x, y = torch.randn(2, 4, 5, 1, dtype=torch.float64)
    return Episode(Labelled(x, y), Labelled(y, x), torch.arange(len(x)))


def task(episode, number=0):
    return tuple(Labelled(part.x[number], part.y[number]) for part in episode[:2])


@pytest.mark.parametrize("objective", [QueryLoss(), ChaserLoss(leader_steps=2)], ids=["query", "chaser"])
def test_one_particle_is_maml(episode, objective):
    bayesian = make(particles=1, inner_steps=2, temperature=3.0, objective=objective)
    torch.manual_seed(0)
    maml = MAML(MLP(hidden=(6,)), inner_lr=0.1, inner_steps=2, objective=objective).double()
    found, expected = bayesian(episode), maml(episode)
    torch.testing.assert_close(found.predictions, expected.predictions)
    objective(found).backward()
    objective(expected).backward()
    for name, parameter in maml.network.named_parameters():
        torch.testing.assert_close(bayesian.network.get_parameter(name).grad[0], parameter.grad)


def test_a_step_is_one_of_stein(episode):
    learner = make(temperature=0.2)
    support, _ = task(episode)
    before, after = learner.trajectory(learner.meta()[0], support, 1)

    def vector(stack, m):
        return torch.cat([stack[name][m].flatten() for name in stack])

    gradients = []
    for m in range(3):
        one = {name: value[m].detach().requires_grad_() for name, value in before.items()}
        loss = nn.functional.mse_loss(torch.func.functional_call(MLP(hidden=(6,)), one, (support.x,)), support.y)
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(one.values()))]))
    particles = torch.stack([vector(before, m) for m in range(3)])
    expected = particles - 0.1 * stein_direction(particles, torch.stack(gradients), 0.2)
    torch.testing.assert_close(torch.stack([vector(after, m) for m in range(3)]), expected)


def test_a_longer_step_is_shortened_for_each_particle_by_itself(episode):
    support, _ = task(episode)

    def moved(**settings):
        learner = make(**settings)
        before, after = learner.trajectory(learner.meta()[0], support, 1)
        return in_a_row(after) - in_a_row(before)

    free = moved()
    norms = (free / 0.1).norm(dim=1)
    limit = norms.sort().values[1].item() * 1.01  # one particle's direction is longer
    steps = moved(clip_norm=limit)
    expected = free * (limit / norms).clamp(max=1).unsqueeze(1)
    torch.testing.assert_close(steps, expected)
    assert (steps.norm(dim=1) < 0.999 * free.norm(dim=1)).sum() == 1


def test_the_chaser_is_the_squared_distance_to_a_leader_that_saw_everything(episode):
    learner = make(inner_steps=2, objective=ChaserLoss(leader_steps=3))
    support, query = task(episode)
    meta = learner.meta()[0]
    chaser = learner.trajectory(meta, support, 2)[-1]
    everything = Labelled(torch.cat([support.x, query.x]), torch.cat([support.y, query.y]))
    state = ()
    leader = chaser
    for _ in range(3):
        leader, state = learner.inner_step(meta, everything, leader, state)
    distance = sum((chaser[name] - leader[name]).square().sum() for name in chaser)
    assert learner(episode).measured["chaser"][0].item() == pytest.approx(distance.item())


def test_the_leader_is_a_constant(episode):
    """So the gradient is that of the distance to fixed parameters."""
    learner = make()
    support, query = task(episode)
    meta = learner.meta()[0]
    chaser = learner.trajectory(meta, support, 1)[-1]
    everything = Labelled(torch.cat([support.x, query.x]), torch.cat([support.y, query.y]))
    leader = {name: value.detach() for name, value in learner.resume(meta, chaser, everything, 1)[-1].items()}
    weights = list(learner.network.parameters())
    expected = torch.autograd.grad(sum((chaser[name] - leader[name]).square().sum() for name in chaser), weights)
    alone = tree_map(lambda leaf: leaf[:1], episode)
    found = torch.autograd.grad(learner(alone).measured["chaser"].sum(), weights)
    torch.testing.assert_close(found, expected)


def test_particles_are_different_networks_the_first_as_given():
    torch.manual_seed(0)
    given = MLP(hidden=(6,)).double()
    before = {name: value.detach().clone() for name, value in given.named_parameters()}
    learner = make(given, particles=4)
    for name, value in learner.network.named_parameters():
        assert value.shape == (4, *before[name].shape)
        assert torch.equal(value[0], before[name])
        assert len(value.flatten(1).unique(dim=0)) == 4


def test_what_does_not_adapt_is_shared():
    network = Classifier(Conv4(channels=4), ways=3)
    shapes = {name: value.shape for name, value in network.named_parameters()}
    learner = BayesianMAML(network, particles=2, adapted=["head.*"])
    found = {name: value.shape for name, value in scope(learner.meta()[0], "network").items()}
    assert found == {name: ((2, *shape) if name.startswith("head") else shape) for name, shape in shapes.items()}


def test_samples_are_the_particles(episode):
    learner = make(inner_steps=3).eval()
    support, query = task(episode)
    samples = learner.sample(support, query.x)
    assert samples.shape == (3, 5, 1)
    torch.testing.assert_close(samples.mean(0), learner.adapt(support)(query.x))
    torch.testing.assert_close(samples.mean(0), learner.evaluate(episode).predictions[0, -1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inner_lr": 0.0}, "inner_lr is 0"),
        ({"particles": 0}, "particles is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"clip_norm": 0.0}, "clip_norm is 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_a_leader_takes_a_step():
    with pytest.raises(ValueError, match="leader_steps is 0"):
        ChaserLoss(leader_steps=0)
