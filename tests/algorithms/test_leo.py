"""Latent embedding optimisation (authors' code: deepmind/leo at de9a0c2, model.py).

https://github.com/deepmind/leo/blob/de9a0c2a77dd7a42c1986b1eef18d184a86e294a/model.py
"""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from metalit import Episode, Labelled
from metalit.algorithms import LEO
from metalit.algorithms.gradient.leo import correlation, kl_to_standard_normal
from metalit.data import Glyphs
from metalit.networks import Classifier, Conv4

WAYS, SHOTS, FEATURES, LATENTS = 3, 2, 6, 4


def make(*, body=None, normalize=False, **settings):
    """Make a learner of raw features, with which the equations are shorter."""
    torch.manual_seed(0)
    network = Classifier(nn.Identity() if body is None else body, ways=WAYS, features=FEATURES)
    return LEO(network, latents=LATENTS, normalize=normalize, **settings).double()


@pytest.fixture
def episode():
    torch.manual_seed(1)
    labels = torch.arange(WAYS).repeat(SHOTS).expand(2, -1)
    x = torch.randn(2, 2, WAYS * SHOTS, FEATURES, dtype=torch.float64)
    return Episode(Labelled(x[0], labels), Labelled(x[1], labels), torch.arange(2))


def encode(learner, x, y):
    """Mean and log std of each class's code, pair by pair."""
    encoder = learner.network.encoder
    codes = x @ encoder.linear.weight.T
    related = torch.stack(
        [torch.stack([encoder.relation(torch.cat([one, other])) for other in codes]).mean(0) for one in codes]
    )
    return torch.stack([related[y == label].mean(0) for label in range(WAYS)]).chunk(2, dim=-1)


def test_at_zero_steps_predictions_are_by_decoded_codes(episode):
    learner = make(latent_steps=0, finetuning_steps=0).eval()
    outcome = learner.evaluate(episode)
    assert outcome.loss.shape == (2, 1)
    for task in range(2):
        mean, _ = encode(learner, episode.support.x[task], episode.support.y[task])
        weights, _ = learner.network.decoder(mean).chunk(2, dim=-1)
        torch.testing.assert_close(outcome.predictions[task, 0], episode.query.x[task] @ weights.T)


def test_inner_steps_by_hand(episode):
    """First the codes descend the support loss at one rate, then the weights at the other."""
    learner = make(latent_steps=1, finetuning_steps=1, latent_lr=0.5, finetuning_lr=0.2).eval()
    support = Labelled(episode.support.x[0], episode.support.y[0])
    start, latent, finetuned = learner.trajectory(learner.meta()[0], support, 2)

    def step(value, decode, rate):
        value = value.detach().requires_grad_()
        loss = nn.functional.cross_entropy(support.x @ decode(value).T, support.y)
        return (value - rate * torch.autograd.grad(loss, value)[0]).detach()

    def decode(codes):
        return learner.network.decoder(codes)[:, :FEATURES]

    torch.testing.assert_close(latent["codes"], step(start["codes"], decode, 0.5))
    torch.testing.assert_close(latent["weights"], decode(latent["codes"]))
    torch.testing.assert_close(finetuned["weights"], step(latent["weights"], lambda weights: weights, 0.2))
    torch.testing.assert_close(finetuned["codes"], latent["codes"])


def test_permuted_labels_permute_predictions(episode):
    learner = make().eval()
    order = torch.tensor([2, 0, 1])
    permuted = episode._replace(support=Labelled(episode.support.x, order[episode.support.y]))
    torch.testing.assert_close(
        learner(permuted).predictions[..., order], learner(episode).predictions, rtol=0, atol=1e-10
    )


def test_kl_is_that_of_torch():
    torch.manual_seed(0)
    mean, log_std = torch.randn(2, 5, 7, dtype=torch.float64)
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = kl_divergence(Normal(mean, log_std.exp()), prior).mean()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_std), expected)


def test_correlation_is_zero_for_orthogonal_directions_only():
    orthogonal = torch.diag(torch.tensor([1.0, 5.0, 0.1]))
    assert correlation(orthogonal).item() == 0
    assert correlation(torch.ones(3, 4)).item() == pytest.approx(6 / 9)  # all cosines but the diagonal are wrong by 1


def test_penalties_are_added_to_the_meta_loss(episode):
    weights = {"kl_weight": 2.0, "encoder_penalty_weight": 3.0, "l2_weight": 0.5, "orthogonality_weight": 0.7}
    learner = make(**weights).eval()
    outcome = learner(episode)
    mean, log_std = encode(learner, episode.support.x[0], episode.support.y[0])
    assert outcome.penalties["kl"][0].item() == pytest.approx(2 * kl_to_standard_normal(mean, log_std).item())
    support = Labelled(episode.support.x[0], episode.support.y[0])
    path = learner.trajectory(learner.meta()[0], support, 10)
    moved = (path[5]["codes"] - mean).square().mean()
    assert outcome.penalties["encoder_penalty"][0].item() == pytest.approx(3 * moved.item())
    modules = (learner.network.encoder, learner.network.decoder)
    squares = sum(weight.square().sum() for module in modules for weight in module.parameters())
    assert outcome.penalties["l2"][0].item() == pytest.approx(0.5 * squares.item() / 2)
    total = outcome.loss.mean() + sum(penalty.mean() for penalty in outcome.penalties.values())
    assert learner.meta_loss(episode).item() == pytest.approx(total.item())
    none = make(**dict.fromkeys(weights, 0.0)).eval()
    assert none.meta_loss(episode).item() == pytest.approx(outcome.loss.mean().item())


def test_codes_and_weights_are_drawn_in_training_only(episode):
    learner, later = make(dropout=0.0), episode._replace(index=episode.index + 10)
    assert not torch.equal(learner(episode).predictions, learner(later).predictions)
    draws = learner.draw(torch.full((20000,), 3.0), torch.tensor(0.5))
    assert draws.mean().item() == pytest.approx(3, abs=0.02)
    assert draws.std().item() == pytest.approx(0.5, abs=0.02)
    learner.eval()
    assert torch.equal(learner(episode).predictions, learner(later).predictions)


def test_the_encoder_penalty_pulls_the_encoder_only(episode):
    """The adapted codes are its target, so it has no gradient with respect to the rates."""
    learner = make(encoder_penalty_weight=1.0).eval()
    penalty = learner(episode).penalties["encoder_penalty"].sum()
    rate, encoder = learner.update_rule.rates().values(), learner.network.encoder.linear.weight
    gradients = torch.autograd.grad(penalty, [*rate, encoder], allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in gradients[:-1])
    assert gradients[-1].abs().sum() > 0


def test_frozen_body_is_a_constant(episode):
    learner = make(body=nn.Linear(FEATURES, FEATURES), train_body=False)
    learner.meta_loss(episode).backward()
    for name, parameter in learner.named_parameters():
        frozen = name.startswith("network.body.")
        assert parameter.requires_grad != frozen
        assert (parameter.grad is None) == frozen
    assert not learner.network.body.training
    assert not any("head" in name for name, _ in learner.named_parameters())  # every task gets its own


def test_a_result_says_what_adapts():
    setting = make(latent_steps=3, finetuning_steps=2).setting()
    assert setting["adapted"] == ["weights"]
    assert setting["inner_steps"] == 5


def test_regression_is_refused(episode):
    numbers = Labelled(episode.support.x, episode.support.x[..., :1])
    with pytest.raises(ValueError, match="LEO generates a classifier"):
        make()(Episode(numbers, numbers, episode.index))


@pytest.mark.parametrize(
    "settings",
    [
        {"latent_steps": -1},
        {"finetuning_steps": -1},
        {"latent_lr": 0.0},
        {"finetuning_lr": -1.0},
        {"dropout": 1.0},
        {"kl_weight": -1.0},
        {"encoder_penalty_weight": -1.0},
        {"l2_weight": -1.0},
        {"orthogonality_weight": float("nan")},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        make(**settings)


def test_features_have_length_one(episode):
    """As in the authors' data.py: instance_input = tf.nn.l2_normalize(instance_input, axis=-1)."""

    def unit(labelled):
        return Labelled(labelled.x / labelled.x.square().sum(-1, keepdim=True).sqrt(), labelled.y)

    units = episode._replace(support=unit(episode.support), query=unit(episode.query))
    expected = make().eval()(units).predictions
    torch.testing.assert_close(make(normalize=True).eval()(episode).predictions, expected)
    scaled = episode._replace(support=Labelled(7 * episode.support.x, episode.support.y))
    torch.testing.assert_close(make(normalize=True).eval()(scaled).predictions, expected)


def test_a_feature_vector_of_zeros_has_a_gradient(episode):
    """As where no unit of the last ReLU is active."""
    learner = make(body=nn.Linear(FEATURES, FEATURES, bias=False), normalize=True)
    episode.support.x[:, 0] = 0
    learner.meta_loss(episode).backward()
    assert all(parameter.grad.isfinite().all() for parameter in learner.parameters())


@pytest.mark.parametrize("rates", [{}, {"latent_lr": 5.0, "finetuning_lr": 0.005}], ids=["default", "authors"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.sample(6)
def test_every_task_is_finite_before_training(seed, rates):
    """With raw embeddings as long as Conv4's not all are: standard deviations are exponential in them."""
    episodes = Glyphs(ways=5, shots=1, train_queries=5, seed=seed).episodes("train", 0, 24)
    torch.manual_seed(seed)
    learner = LEO(Classifier(Conv4(64), ways=5), **rates)
    with torch.no_grad():
        loss = learner(episodes).loss
        assert loss.isfinite().all()
        assert loss.median() < 1.3 * math.log(5)  # little above chance
        learner.normalize = False
        assert not learner(episodes).loss.isfinite().all()


@pytest.mark.parametrize("shots", [1, 4])
def test_rates_are_the_authors_times_the_ways(shots):
    """model.py: K copies of a code share the logits, and the loss is summed over the N K support examples."""
    torch.manual_seed(0)
    x = torch.randn(WAYS * shots, FEATURES, dtype=torch.float64)
    labels = torch.arange(WAYS).repeat_interleave(shots)
    learner = make(latent_steps=1, finetuning_steps=1, latent_lr=WAYS * 0.5, finetuning_lr=WAYS * 0.2).eval()
    start, latent, finetuned = learner.trajectory(learner.meta()[0], Labelled(x, labels), 2)

    def decode(codes):
        return learner.network.decoder(codes)[..., :FEATURES]

    def step(value, decode, rate):  # value [N, K, ...], as there
        value = value.detach().requires_grad_()
        logits = torch.einsum("id,nkd->ink", x, decode(value)).mean(-1)
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        return (value - rate * torch.autograd.grad(loss, value)[0]).detach()

    codes = step(start["codes"].unsqueeze(1).expand(-1, shots, -1), decode, 0.5)
    weights = step(decode(codes), lambda weights: weights, 0.2)
    torch.testing.assert_close(codes.mean(1), latent["codes"])
    torch.testing.assert_close(weights.mean(1), finetuned["weights"])
