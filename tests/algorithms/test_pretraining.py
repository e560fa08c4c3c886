"""Methods that learn to tell all training classes apart."""

import copy
from functools import partial

import lightning as L
import pytest
import torch
from torch import nn

from cases import DOMAINS
from metalit import Episode, Labelled
from metalit.algorithms import Baseline, BaselinePlusPlus, MetaBaseline, SimpleShot
from metalit.networks import Conv4

pytestmark = pytest.mark.algorithms("Baseline", "BaselinePlusPlus", "MetaBaseline", "SimpleShot")


def trainer(folder, max_steps=1):
    return L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
                     enable_checkpointing=False, inference_mode=False, use_distributed_sampler=False,
                     default_root_dir=folder, limit_val_batches=0, max_steps=max_steps, max_epochs=-1)  # fmt: skip


def network():
    return Conv4(channels=8, batch_norm="running")


def test_loss_is_that_of_all_examples_among_all_classes():
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 6, 4), torch.tensor([[7, 3, 0, 9, 9, 1]])
    episode = Episode(Labelled(x[0], y), Labelled(x[1], y.flip(1)), torch.arange(1))
    learner = Baseline(nn.Identity(), classes=10, features=4)
    outcome = learner(episode)
    logits = learner.classifier(torch.cat([x[0, 0], x[1, 0]]))
    torch.testing.assert_close(outcome.predictions[0], logits[6:])
    expected = nn.functional.cross_entropy(logits, torch.cat([y[0], y[0].flip(0)]))
    torch.testing.assert_close(outcome.loss[0], expected)


def test_labels_of_episodes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data\.train_labels is episode, expected split"):
        trainer(tmp_path).fit(Baseline(network(), classes=40), DOMAINS["glyphs"].data())


def test_another_number_of_classes_is_refused_by_the_right_one(tmp_path):
    data = DOMAINS["glyphs"].data(train_labels="split")
    with pytest.raises(ValueError, match=r"model\.classes is 64, expected 40"):
        trainer(tmp_path).fit(BaselinePlusPlus(network(), classes=64), data)


@pytest.mark.parametrize("algorithm", [Baseline, BaselinePlusPlus])
def test_too_few_classes_are_refused(algorithm):
    with pytest.raises(ValueError, match="classes is 1, "):
        algorithm(network(), classes=1)


def test_the_centre_is_the_running_mean_of_training_embeddings(tmp_path):
    torch.manual_seed(0)
    learner = SimpleShot(network(), classes=40, momentum=0.25)
    data = DOMAINS["glyphs"].data(train_labels="split")
    before = copy.deepcopy(learner)
    trainer(tmp_path).fit(learner, data)  # one step
    episodes = data.episodes("train", 0, 4)
    means = [
        before.network(torch.cat([support, query])).mean(dim=0)
        for support, query in zip(episodes.support.x, episodes.query.x, strict=True)
    ]
    torch.testing.assert_close(learner.head.transform.centre, 0.25 * torch.stack(means).mean(dim=0).detach())


@pytest.mark.learns
def test_in_two_stages(tmp_path):
    """A classifier first; then training on episodes goes on from its network, which classifies new classes already."""
    torch.manual_seed(0)
    data = DOMAINS["glyphs"].data(train_labels="split", episodes_per_epoch=1000)
    first = Baseline(network(), classes=40, optimizer=partial(torch.optim.Adam, lr=0.01))
    run = trainer(tmp_path, max_steps=60)
    run.fit(first, data)
    run.save_checkpoint(tmp_path / "first.ckpt")
    episodes = DOMAINS["glyphs"].data().episodes("test", 0, 100)
    losses = []
    for steps in (0, 60):
        second = MetaBaseline(
            network(),
            pretrained=str(tmp_path / "first.ckpt"),
            optimizer=partial(torch.optim.Adam, lr=0.003),
        )
        trainer(tmp_path, max_steps=steps).fit(second, DOMAINS["glyphs"].data(episodes_per_epoch=1000))
        losses.append(second.eval().evaluate(episodes).loss.mean().item())
    untrained = MetaBaseline(network()).eval().evaluate(episodes).loss.mean().item()
    assert losses[1] < losses[0] < untrained


@pytest.mark.parametrize("momentum", [0.0, 1.5])
def test_impossible_momentum_is_refused(momentum):
    with pytest.raises(ValueError, match=f"momentum is {momentum}"):
        SimpleShot(network(), classes=40, momentum=momentum)
