"""Conditional and attentive neural processes (authors' code: google-deepmind/neural-processes).

https://github.com/google-deepmind/neural-processes/blob/e7830a5664abf42c5eb891c48cf45423c4c21fc0/conditional_neural_process.ipynb
https://github.com/google-deepmind/neural-processes/blob/a27d11702ba9c7e4405710f94f0acc66020fe243/attentive_neural_process.ipynb
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

from metalit import Episode, Labelled
from metalit.algorithms import AttentiveNeuralProcess, ConditionalNeuralProcess
from metalit.algorithms.probabilistic.neural_process import Context
from metalit.episode import labelled
from metalit.networks import AttentiveProcess, ConditionalProcess
from metalit.objectives import JointLoss
from metalit.tasks import TaskContext

pytestmark = pytest.mark.algorithms("ConditionalNeuralProcess", "AttentiveNeuralProcess")
INPUTS, OUTPUTS, SHOTS, QUERIES = 2, 3, 6, 4


def conditional(**settings):
    torch.manual_seed(0)
    return ConditionalNeuralProcess(ConditionalProcess(INPUTS, OUTPUTS, hidden=8), **settings).double()


def attentive(**settings):
    torch.manual_seed(0)
    network = AttentiveProcess(INPUTS, OUTPUTS, hidden=8, heads=2)
    return AttentiveNeuralProcess(network, **({"samples": 3} | settings)).double()


both = pytest.mark.parametrize("make", [conditional, attentive], ids=["conditional", "attentive"])


@pytest.fixture
def episode():
    torch.manual_seed(1)

    def points(count):
        return Labelled(*(torch.randn(2, count, size, dtype=torch.float64) for size in (INPUTS, OUTPUTS)))

    return Episode(points(SHOTS), points(QUERIES), torch.arange(2))


def first(part):
    return Labelled(part.x[0], part.y[0])


@both
def test_padded_tasks_of_several_inputs_are_those_alone(make, episode):
    """As tables are: tasks of unequal size, padded to the largest."""
    learner = make(min_context=1).eval()
    sizes = [(SHOTS, 2), (3, QUERIES)]
    parts = []
    for part, size in zip(episode[:2], zip(*sizes, strict=True), strict=True):
        mask = torch.arange(part.y.shape[1]) < torch.tensor(size).unsqueeze(1)
        parts.append(labelled(part.x.where(mask.unsqueeze(-1), 0), part.y.where(mask.unsqueeze(-1), 0), mask))
    padded = Episode(*parts, episode.index)
    together = learner.evaluate(padded)
    for task, (shots, queries) in enumerate(sizes):
        one = slice(task, task + 1)
        support, query = (
            Labelled(part.x[one, :n], part.y[one, :n]) for part, n in zip(episode[:2], (shots, queries), strict=True)
        )
        alone = learner.evaluate(Episode(support, query, episode.index[one]))
        torch.testing.assert_close(together.loss[task], alone.loss[0])
        torch.testing.assert_close(together.predictions[task, :, :queries], alone.predictions[0])
    loss = learner.train().meta_loss(padded)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in learner.parameters())


def test_conditional_process_by_hand(episode):
    learner = conditional().eval()
    network, (x, y), query = learner.network, first(episode.support), first(episode.query)
    code = torch.stack([network.encoder(torch.cat(point)) for point in zip(x, y, strict=True)]).mean(0)
    out = torch.stack([network.decoder(torch.cat([x, code])) for x in query.x])
    mean, std = out[:, :OUTPUTS], 0.1 + 0.9 * F.softplus(out[:, OUTPUTS:])
    outcome = learner.evaluate(episode)
    torch.testing.assert_close(outcome.predictions[0, 0], mean)
    expected = -Normal(mean, std).log_prob(query.y).sum(-1).mean()
    torch.testing.assert_close(outcome.loss[0, 0], expected)
    torch.testing.assert_close(outcome.measured["nll"][0, 0], expected)
    torch.testing.assert_close(learner.gaussians(first(episode.support), query.x)[1][0], std)


def test_attention_is_that_of_torch():
    predictor = attentive().network.predictor
    reference = nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        parts = (predictor.query, predictor.key, predictor.value)
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    reference.out_proj = predictor.join
    at, places, codes = (torch.randn(count, 8, dtype=torch.float64) for count in (4, 5, 5))
    counts = torch.tensor([1.0, 0, 1, 1, 0], dtype=torch.float64)
    expected, _ = reference(at[None], places[None], codes[None], key_padding_mask=counts[None] == 0)
    torch.testing.assert_close(predictor.attend(at, places, codes, counts), expected[0])


def gaussians(learner, context, x):
    meta = learner.meta()[0]
    return learner.gaussians_at(meta, learner.encode(meta, context), x)


@both
def test_a_point_that_does_not_count_is_as_good_as_absent(make, episode):
    learner = make()
    support, query = first(episode.support), first(episode.query)
    counts = torch.tensor([1.0, 0, 1, 1, 0, 1], dtype=torch.float64)
    kept = counts.bool()
    few = Context(support.x[kept], support.y[kept], counts[kept])
    with TaskContext(torch.tensor(3), {}):
        masked = gaussians(learner, Context(*support, counts), query.x)
    with TaskContext(torch.tensor(3), {}):
        expected = gaussians(learner, few, query.x)
    torch.testing.assert_close(masked, expected)


@both
def test_context_sizes_are_uniform_and_points_random(make, episode):
    learner, support = make(min_context=2), first(episode.support)
    torch.manual_seed(0)
    drawn = torch.stack([learner.random_context(support).counts for _ in range(3000)])
    sizes = drawn.sum(1).long().bincount(minlength=SHOTS + 1) / len(drawn)
    torch.testing.assert_close(sizes, torch.tensor([0, 0, 0.2, 0.2, 0.2, 0.2, 0.2]), rtol=0, atol=0.03)
    assert drawn.mean(0).std() < 0.02
    assert make().random_context(support).counts.tolist() == [1.0] * SHOTS


def test_the_bound_by_hand(episode):
    """The latent variable of all targets in training, and the KL from that of the context, per target."""
    learner = attentive(kl_weight=0.5)
    support, query = first(episode.support), first(episode.query)
    targets = Labelled(torch.cat([support.x, query.x]), torch.cat([support.y, query.y]))

    def latent(points):
        mean, log_std = learner.latent(learner.meta()[0], Context(*points, torch.ones_like(points.y[:, 0])))
        assert (log_std.exp() > 0.1).all()
        assert (log_std.exp() < 1).all()
        return Normal(mean, log_std.exp())

    kl = kl_divergence(latent(targets), latent(support)).sum() / (SHOTS + QUERIES)
    torch.testing.assert_close(learner(episode).penalties["kl"][0], 0.5 * kl)
    assert learner(episode).loss.shape == (2,)
    assert "kl" not in learner.eval()(episode).penalties


def test_targets_of_training_include_the_context(episode):
    learner = conditional()
    mean, log_std = gaussians(
        learner,
        Context(*first(episode.support), torch.ones(SHOTS, dtype=torch.float64)),
        torch.cat([episode.support.x[0], episode.query.x[0]]),
    )
    targets = torch.cat([episode.support.y[0], episode.query.y[0]])
    outcome = learner(episode)
    expected = -Normal(mean[0], log_std[0].exp()).log_prob(targets).sum(-1).mean()
    torch.testing.assert_close(outcome.loss[0], expected)
    torch.testing.assert_close(outcome.predictions[0], mean[0, SHOTS:])


@both
def test_samples_are_the_means_behind_the_prediction(make, episode):
    learner = make().eval()
    support, query = first(episode.support), first(episode.query)
    samples = learner.sample(support, query.x)
    assert samples.shape == (1 if make is conditional else 3, QUERIES, OUTPUTS)
    torch.testing.assert_close(samples.mean(0), learner.adapt(support)(query.x))


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_context": 0}, "min_context is 0"),
        ({"objective": JointLoss()}, "JointLoss uses adapted parameters"),
    ],
)
def test_impossible_settings_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_impossible_settings_of_the_attentive_one_are_refused():
    with pytest.raises(ValueError, match="samples is 0"):
        attentive(samples=0)
    with pytest.raises(ValueError, match="kl_weight is -1"):
        attentive(kl_weight=-1.0)
    with pytest.raises(ValueError, match="hidden is 10"):
        AttentiveProcess(hidden=10, heads=4)
    with pytest.raises(ValueError, match="encoder_layers is 0"):
        ConditionalProcess(encoder_layers=0)


def test_episodes_that_do_not_fit_are_refused(episode):
    with pytest.raises(ValueError, match="min_context is 7, expected at most 6"):
        conditional(min_context=7)(episode)
    labels = Labelled(episode.support.x, torch.zeros(2, SHOTS, dtype=torch.int64))
    with pytest.raises(ValueError, match="the labels are integers"):
        conditional().eval()(Episode(labels, labels, episode.index))
