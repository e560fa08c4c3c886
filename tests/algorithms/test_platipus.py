"""PLATIPUS; a reimplementation is compared in the choice of its two phases (the authors published no code).

https://github.com/cnguyen10/few_shot_meta_learning/blob/00941cb2dfc95e6ad537086e1faf0ab7ebf2cedf/Platipus.py
"""

import math

import pytest
import torch
from torch import nn

from metalit import MAML, Episode, Labelled
from metalit.algorithms import PLATIPUS
from metalit.networks import MLP, Classifier, Conv4
from metalit.tasks import TaskContext

NOTHING = 1e-30  # as a standard deviation or a rate: no number in float64 changes


def make(**settings):
    torch.manual_seed(0)
    return PLATIPUS(MLP(hidden=(6,)), **({"inner_lr": 0.1} | settings)).double()


@pytest.fixture
def episode():
    torch.manual_seed(1)
    x, y = torch.randn(2, 3, 5, 1, dtype=torch.float64)
    return Episode(Labelled(x, y), Labelled(y, x), torch.arange(len(x)))


def task(episode):
    return tuple(Labelled(part.x[0], part.y[0]) for part in episode[:2])


@pytest.mark.parametrize("training", [True, False])
def test_without_variance_and_prior_step_it_is_maml(episode, training):
    none = {"initial_std": NOTHING, "initial_gamma": NOTHING, "kl_weight": 0.0}
    platipus = make(inner_steps=2, samples=3, train_samples=2, **none).train(training)
    torch.manual_seed(0)
    maml = MAML(MLP(hidden=(6,)), inner_lr=0.1, inner_steps=2).double().train(training)
    found, expected = platipus(episode), maml(episode)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.predictions, expected.predictions)
    found.loss.sum().backward()
    expected.loss.sum().backward()
    for name, parameter in maml.network.named_parameters():
        torch.testing.assert_close(platipus.network.get_parameter(name).grad, parameter.grad)


def test_two_phases_by_hand(episode):
    """The prior's mean is a step on the support set, the posterior's one on the query set, each at its own rate."""
    learner = make()
    with torch.no_grad():
        learner.prior_log_gamma.fill_(math.log(0.2))
        learner.posterior_log_gamma.fill_(math.log(0.3))
    support, query = task(episode)
    for which, examples, gamma in (("prior", support, 0.2), ("posterior", query, 0.3)):
        loss = nn.functional.mse_loss(learner.network(examples.x), examples.y)
        gradient = torch.autograd.grad(loss, list(learner.network.parameters()))
        expected = [mu - gamma * slope for mu, slope in zip(learner.network.parameters(), gradient, strict=True)]
        mean, _ = learner.gaussian(learner.meta()[0], examples, which)
        torch.testing.assert_close(mean, torch.cat([value.flatten() for value in expected]))


def test_query_labels_move_training_only(episode):
    learner = make()
    other = episode._replace(query=Labelled(episode.query.x, episode.query.y.flip(1)))

    def predictions(of):
        torch.manual_seed(2)
        return learner(of).predictions

    assert not torch.allclose(predictions(episode), predictions(other))
    learner.eval()
    assert torch.equal(predictions(episode), predictions(other))
    assert "kl" not in learner(episode).penalties


def test_the_kl_is_weighted_and_zero_for_equal_phases(episode):
    kl = make(kl_weight=1.0)(episode).penalties["kl"]
    torch.testing.assert_close(make(kl_weight=0.5)(episode).penalties["kl"], 0.5 * kl)
    same = make(kl_weight=1.0)(episode._replace(query=episode.support)).penalties["kl"]
    assert same.abs().max() < 1e-10 < kl.min()


def test_draws_have_the_distribution_they_are_drawn_from():
    learner = make(initial_std=0.5)
    mean = torch.arange(19, dtype=torch.float64)
    with TaskContext(torch.tensor(5), {}):
        drawn = learner.draw(mean, learner.prior_log_std, 20000)
    flat = torch.cat([value.flatten(1) for value in drawn.values()], dim=1)
    torch.testing.assert_close(flat.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(flat.std(0), torch.full_like(mean, 0.5), rtol=0, atol=0.02)


def test_samples_are_those_behind_the_prediction(episode):
    learner = make(samples=4).eval()
    support, query = task(episode)
    samples = learner.sample(support, query.x)
    assert samples.shape == (4, 5, 1)
    assert samples.std(0).min() > 0
    torch.testing.assert_close(samples.mean(0), learner.adapt(support)(query.x))
    torch.testing.assert_close(samples.mean(0), learner.evaluate(episode).predictions[0, -1])


def test_the_noise_learns_from_the_likelihood_and_nothing_else_does(episode):
    learner = make()
    noise = learner(episode).penalties["noise"].sum()
    named = dict(learner.named_parameters())
    gradients = torch.autograd.grad(noise, list(named.values()), allow_unused=True)
    assert [name for name, slope in zip(named, gradients, strict=True) if slope is not None and slope.any()] == [
        "log_noise"
    ]


def test_what_is_measured(episode):
    learner = make(eval_inner_steps=3).eval()
    measured = learner.evaluate(episode).measured
    assert {name: value.shape for name, value in measured.items()} == {"nll": (3, 4), "spread": (3, 4)}
    assert (measured["spread"] > 1).all()  # the noise is part of it


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inner_lr": 0.0}, "inner_lr is 0"),
        ({"samples": 0}, "samples is 0"),
        ({"train_samples": 0}, "train_samples is 0"),
        ({"initial_std": 0.0}, "initial_std is 0"),
        ({"initial_gamma": -1.0}, "initial_gamma is -1"),
        ({"kl_weight": -1.0}, "kl_weight is -1"),
        ({"noise": 0.0}, "noise is 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_running_statistics_are_refused():
    with pytest.raises(ValueError, match="cannot share running statistics"):
        PLATIPUS(Classifier(Conv4(channels=4, batch_norm="running"), ways=3))
