"""Training from the network of another run."""

import lightning as L
import pytest
import torch

from cases import CASES, DOMAINS
from metalit import MAML, PrototypicalNetwork
from metalit.networks import Classifier, Conv4


def trainer(folder, **settings):
    return L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
                     enable_checkpointing=False, inference_mode=False, use_distributed_sampler=False,
                     default_root_dir=folder, limit_val_batches=0, **settings)  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(5)
    learner, run = CASES["PrototypicalNetwork"].make("glyphs"), trainer(tmp_path, max_steps=2)
    run.fit(learner, DOMAINS["glyphs"].data())
    run.save_checkpoint(tmp_path / "first.ckpt")
    return learner, tmp_path / "first.ckpt"


def test_weights_and_running_statistics_are_where_training_starts(checkpoint, tmp_path):
    first, path = checkpoint
    second = PrototypicalNetwork(Conv4(channels=8, batch_norm="running"), pretrained=str(path))
    assert not torch.equal(second.network.blocks[0][0].weight, first.network.blocks[0][0].weight)
    trainer(tmp_path, max_steps=0).fit(second, DOMAINS["glyphs"].data())
    ours, theirs = second.network.state_dict(), first.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not torch.equal(ours["blocks.0.1.running_mean"], torch.zeros(8))


def test_a_resumed_run_keeps_its_own_weights_and_does_not_need_the_file(checkpoint, tmp_path):
    first, path = checkpoint
    second = PrototypicalNetwork(Conv4(channels=8, batch_norm="running"), pretrained=str(path))
    run = trainer(tmp_path, max_steps=2)
    run.fit(second, DOMAINS["glyphs"].data())
    run.save_checkpoint(tmp_path / "second.ckpt")
    path.unlink()
    resumed = PrototypicalNetwork(Conv4(channels=8, batch_norm="running"), pretrained=str(path))
    trainer(tmp_path, max_steps=2).fit(resumed, DOMAINS["glyphs"].data(), ckpt_path=tmp_path / "second.ckpt")
    weight = second.network.blocks[0][0].weight
    assert torch.equal(resumed.network.blocks[0][0].weight, weight)
    assert not torch.equal(first.network.blocks[0][0].weight, weight)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (lambda: Conv4(channels=16, batch_norm="running"), r"blocks.0.0.weight is of shape \[8, 1, 3, 3\]"),
        (lambda: Conv4(channels=8, batch_norm="batch"), "running_mean is of shape .* there and not there in ours"),
        (lambda: Classifier(Conv4(channels=8), ways=3), "body.blocks.0.0.weight is not there"),
    ],
    ids=["shapes", "buffers", "names"],
)  # fmt: skip
def test_another_network_is_refused_by_name(network, named, checkpoint, tmp_path):
    learner = MAML(network(), pretrained=str(checkpoint[1]))
    with pytest.raises(ValueError, match=named):
        trainer(tmp_path, max_steps=1).fit(learner, DOMAINS["glyphs"].data())


@pytest.mark.parametrize("content", [None, b"not a checkpoint"], ids=["missing", "damaged"])
def test_a_file_that_is_none_is_refused(content, tmp_path):
    path = tmp_path / "x.ckpt"
    if content:
        path.write_bytes(content)
    learner = CASES["PrototypicalNetwork"].make("glyphs", pretrained=str(path))
    with pytest.raises(ValueError, match=r"model.pretrained.*x\.ckpt"):
        trainer(tmp_path, max_steps=1).fit(learner, DOMAINS["glyphs"].data())
