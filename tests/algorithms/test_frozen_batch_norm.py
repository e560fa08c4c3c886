"""Batch norms that keep their statistics and their mode in training, as second stages and pretrained backbones want."""

import lightning as L
import pytest
import torch
from torch import nn

from cases import DOMAINS
from metalit import MAML, PrototypicalNetwork
from metalit.networks import Classifier, Conv4

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def fit(learner, folder):
    trainer = L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", max_steps=3,
        enable_checkpointing=False, inference_mode=False, use_distributed_sampler=False, val_check_interval=1,
        limit_val_batches=1, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(learner, DOMAINS["glyphs"].data())


def network(batch_norm="running"):
    """Return a network whose statistics are those of some images, as if it were pretrained."""
    torch.manual_seed(0)
    made = Conv4(channels=8, batch_norm=batch_norm)
    for _ in range(5):
        made(torch.rand(20, 1, 28, 28))
    return made


def statistics(learner):
    return {name: value.clone() for name, value in learner.named_buffers() if name.rpartition(".")[2] in STATISTICS}


METHODS = {
    "metric": lambda **settings: PrototypicalNetwork(network(), **settings),
    "renorm": lambda **settings: PrototypicalNetwork(network("renorm"), **settings),
    "gradient": lambda **settings: MAML(Classifier(network(), ways=3), inner_lr=0.1, **settings),
}


@pytest.mark.parametrize("method", METHODS)
def test_training_leaves_the_statistics_as_they_are(method, tmp_path):
    learner = METHODS[method](frozen_batch_norm=["*"])
    before = statistics(learner)
    affine = {name: value.clone() for name, value in learner.named_parameters() if ".1.weight" in name}
    fit(learner, tmp_path)
    assert len(before) == 12
    assert all(torch.equal(learner.get_buffer(name), value) for name, value in before.items())
    assert not any(torch.equal(learner.get_parameter(name), value) for name, value in affine.items())
    moving = METHODS[method]()
    fit(moving, tmp_path)
    assert not any(torch.equal(moving.get_buffer(name), value) for name, value in before.items())


def test_training_normalises_by_the_running_statistics():
    """So that a training task has the same outputs as an evaluated one, where batch norm is all that differs."""
    episode = DOMAINS["glyphs"].data().episodes("train", 0, 2)
    frozen, moving = (PrototypicalNetwork(network(), **given) for given in ({"frozen_batch_norm": ["*"]}, {}))
    assert frozen.training
    torch.testing.assert_close(frozen(episode).predictions, frozen.eval()(episode).predictions)
    assert not torch.allclose(moving(episode).predictions, moving.eval()(episode).predictions)


def test_the_mode_outlives_train():
    learner = PrototypicalNetwork(network(), frozen_batch_norm=["blocks.0.*", "blocks.1.*"])
    for made in (learner, learner.eval(), learner.train()):
        assert [block[1].training for block in made.network.blocks[:2]] == [False, False]
    assert [block[1].training for block in learner.network.blocks[2:]] == [True, True]
    assert learner.network.training
    assert learner.setting()["frozen_batch_norm"] == ["blocks.0.*", "blocks.1.*"]


def test_other_modules_keep_the_mode_they_were_given():
    body = network()
    body.blocks[0].eval()
    learner = PrototypicalNetwork(body, frozen_batch_norm=["blocks.3.1"])
    assert [block.training for block in learner.network.blocks] == [False, True, True, True]


def test_batch_norm_of_a_network_of_ones_own():
    layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.BatchNorm1d(4))
    assert not PrototypicalNetwork(layers, frozen_batch_norm=["*"]).train().network[2].training


def test_what_cannot_be_frozen_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none of the network's batch norms; these are: blocks\.0\.1"):
        PrototypicalNetwork(Conv4(8), frozen_batch_norm=["head.*"])
    with pytest.raises(ValueError, match="Identity has no batch norm"):
        PrototypicalNetwork(nn.Identity(), frozen_batch_norm=["*"])
    learner = MAML(Classifier(Conv4(8, batch_norm="batch"), ways=3), frozen_batch_norm=["*"])
    with pytest.raises(ValueError, match=r"body\.blocks\.0\.1.*no running statistics.*batch_norm: running"):
        fit(learner, tmp_path)
