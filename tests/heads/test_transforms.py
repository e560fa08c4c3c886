"""What is done to embeddings before a head sees them."""

from copy import deepcopy

import lightning as L
import pytest
import torch
from torch import nn

from cases import DOMAINS
from metalit import Labelled
from metalit.algorithms import R2D2, MetaOptNet, PrototypicalNetwork, SimpleShot
from metalit.functional import class_means
from metalit.functional.preprocessing import signed_root
from metalit.heads import EmbeddingTransform, NearestClassMean, RidgeRegression, SquaredEuclidean, Transformed
from metalit.networks import Conv4

F64 = torch.float64
CENTRE = torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=F64)
BY_HAND = {
    (): lambda x: x,
    ("l2",): lambda x: x / x.norm(dim=1, keepdim=True),
    ("centre", "l2"): lambda x: (x - CENTRE) / (x - CENTRE).norm(dim=1, keepdim=True),
    ("power", "centre"): lambda x: x.sign() * (x.abs() + 1e-6).sqrt() - CENTRE,
    ("l2", "centre"): lambda x: x / x.norm(dim=1, keepdim=True) - CENTRE,
}


@pytest.fixture
def task():
    torch.manual_seed(0)
    return Labelled(torch.randn(6, 4, dtype=F64), torch.arange(3).repeat(2)), torch.randn(5, 4, dtype=F64)


def centred(steps, length=4):
    transform = EmbeddingTransform(steps, length).double()
    transform.centre += CENTRE
    return transform


@pytest.mark.parametrize("steps", BY_HAND)
def test_class_means_of_transformed_embeddings_by_hand(steps, task):
    support, query = task
    head, transformed = Transformed(NearestClassMean(SquaredEuclidean()), centred(steps)), BY_HAND[steps]
    means = torch.stack([transformed(support.x[support.y == k]).mean(dim=0) for k in range(3)])
    torch.testing.assert_close(head(support, query, 3), -torch.cdist(transformed(query), means).square())


def test_any_head_sees_what_was_transformed_by_hand(task):
    support, query = task
    by_hand, ridge = BY_HAND["centre", "l2"], RidgeRegression(0.5).double()
    expected = ridge(Labelled(by_hand(support.x), support.y), by_hand(query), 3)
    torch.testing.assert_close(Transformed(ridge, centred(("centre", "l2")))(support, query, 3), expected)


def test_the_root_of_zero_has_a_finite_derivative():
    x = torch.tensor([0.0, 4.0, -4.0], dtype=F64, requires_grad=True)
    signed_root(x).sum().backward()
    torch.testing.assert_close(signed_root(x).detach(), torch.tensor([0.0, 2, -2], dtype=F64), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 0.25, 0.25], dtype=F64), atol=1e-6, rtol=0)


def trainer(folder, **settings):
    return L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
                     enable_checkpointing=False, inference_mode=False, use_distributed_sampler=False,
                     default_root_dir=folder, limit_val_batches=0, **settings)  # fmt: skip


@pytest.mark.parametrize("algorithm", [PrototypicalNetwork, R2D2, MetaOptNet])
def test_training_on_episodes_observes_the_mean(algorithm, tmp_path):
    torch.manual_seed(0)
    learner, data = algorithm(Conv4(channels=8), transform=["centre", "l2"]), DOMAINS["glyphs"].data()
    episode, network = data.episodes("train", 0, 4), deepcopy(learner.network).train()
    means = [network(torch.cat(both)).mean(dim=0) for both in zip(episode.support.x, episode.query.x, strict=True)]
    trainer(tmp_path, max_steps=1, max_epochs=-1).fit(learner, data)
    torch.testing.assert_close(learner.head.transform.centre, 0.01 * torch.stack(means).mean(dim=0).detach())
    assert learner.setting()["transform"] == ["centre", "l2"]


def test_an_unknown_centre_is_not_taken_for_zero():
    """Before a test has computed it, a method that is not trained would leave the step out without a word."""
    learner, data = (
        PrototypicalNetwork(nn.Flatten(), transform=["centre", "l2"], features=784),
        DOMAINS["glyphs"].data(),
    )
    episode = data.episodes("test")
    support = Labelled(episode.support.x[0], episode.support.y[0])
    with pytest.raises(ValueError, match="the mean over the training classes, which is not known yet"):
        learner.adapt(support)
    assert learner.decide(data) == {}
    expected = learner.eval().evaluate(episode).predictions[0, -1]
    torch.testing.assert_close(learner.adapt(support)(episode.query.x[0]), expected)


def test_an_untrained_network_is_centred_on_the_training_split(tmp_path):
    data = DOMAINS["glyphs"].data(store_on_accelerator=False)
    size = data.episodes("test").support.x[0, 0].numel()
    learner = PrototypicalNetwork(nn.Flatten(), transform=["power", "centre", "l2"], features=size)
    trainer(tmp_path).test(learner, data, verbose=False)
    images = data.stores["train"].items.flatten(1).float() / 255
    torch.testing.assert_close(learner.head.transform.centre, signed_root(images).mean(dim=0))
    simple = SimpleShot(nn.Flatten(), features=size)
    trainer(tmp_path).test(simple, data, verbose=False)
    torch.testing.assert_close(simple.head.transform.centre, images.mean(dim=0))
    images = data.episodes("test", 0, 1)
    (support, query), mean = (part for part in (images.support, images.query)), simple.head.transform.centre
    normed = [nn.functional.normalize(part.x[0].flatten(1) - mean, dim=1) for part in (support, query)]
    expected = -torch.cdist(normed[1], class_means(normed[0], support.y[0], 3)).square()
    torch.testing.assert_close(simple.eval().evaluate(images).predictions[0, -1], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"transform": ["l2", "l2"]}, "transform is"),
        ({"transform": ["whiten"]}, "transform is"),
        ({"transform": ["centre"]}, "does not say how long its embedding is"),
        ({"transform": ["centre"], "features": 0}, "features is 0"),
    ],
)
def test_impossible_steps_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PrototypicalNetwork(nn.Flatten(), **settings)


def test_a_method_without_classes_is_not_trained(tmp_path):
    with pytest.raises(ValueError, match=r"SimpleShot has no parameter to train"):
        trainer(tmp_path, max_steps=1).fit(SimpleShot(nn.Flatten(), features=784), DOMAINS["glyphs"].data())
