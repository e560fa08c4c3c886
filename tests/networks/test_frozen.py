"""A network as a training left it, as features of any method."""

import lightning as L
import pytest
import torch
from safetensors.torch import save_file

from metalit.algorithms import PrototypicalNetwork, RidgeProbe
from metalit.data import Glyphs
from metalit.errors import SettingError, UserError
from metalit.networks import Conv4, Frozen, LoRA, TextTransformer, Tuned, Vectors

OPTIONS = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "inference_mode": False}


def conv4(channels=4):
    return Conv4(channels, batch_norm="running")


def data(root, **settings):
    episodes = {"ways": 3, "shots": 2, "queries": 3, "episodes_per_epoch": 8, "val_episodes": 4, "test_episodes": 6}
    return Glyphs(classes=40, root=str(root), **episodes, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A prototypical network after two steps, and its checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    learner = PrototypicalNetwork(conv4())
    trainer = L.Trainer(
        max_steps=2, default_root_dir=folder, limit_val_batches=0, enable_checkpointing=False, **OPTIONS
    )
    trainer.fit(learner, data(folder))
    trainer.save_checkpoint(folder / "best.ckpt")
    return learner, folder / "best.ckpt"


def accuracies(learner, data):
    L.Trainer(enable_checkpointing=False, **OPTIONS).test(learner, data, verbose=False)
    return learner.last_evaluation.values["accuracy"]


def test_its_features_give_the_episodes_of_the_training_network(trained, tmp_path):
    learner, path = trained
    features = Frozen(conv4(), str(path))
    assert torch.equal(features.eval()(torch.ones(2, 1, 28, 28)), learner.network.eval()(torch.ones(2, 1, 28, 28)))
    on_features = data(tmp_path, features=features)
    values = accuracies(PrototypicalNetwork(Vectors(features.features)), on_features)
    torch.testing.assert_close(values, accuracies(learner, data(tmp_path)))
    assert str(path) in on_features.setting()["frozen_weights"]
    # and another method runs on them
    assert accuracies(RidgeProbe(Vectors(features.features)), on_features).mean() > 1 / 3


def test_nothing_in_it_is_trained(trained):
    network = Frozen(Tuned(conv4(), ["*.bias"])).train()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.network.modules())


def test_the_setting_states_every_part_as_it_was_trained():
    network = LoRA(Tuned(TextTransformer(20, width=8, layers=1, heads=2), ["*.bias"]), ["*.queries"], rank=2)
    lora = network.trained_share()
    found = Frozen(network).setting()
    assert (found["frozen_network"], found["frozen_weights"]) == ("LoRA", "as made")
    assert found["tuned"] == ["*.bias"]  # of the part within: where a language model says its name and its past
    assert found["lora_parameters"] == lora != network.trained_share()


def test_a_file_of_the_networks_own_tensors(trained, tmp_path):
    learner, _ = trained
    save_file(
        {name: value.clone() for name, value in learner.network.state_dict().items()}, tmp_path / "net.safetensors"
    )
    found = Frozen(conv4(), str(tmp_path / "net.safetensors")).network.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in learner.network.state_dict().items())


def test_weights_of_another_network_are_refused(trained, tmp_path):
    _, path = trained
    with pytest.raises(UserError, match=r"weights: .*best.ckpt does not fit Conv4: blocks.0.*of shape"):
        Frozen(conv4(8), str(path))
    with pytest.raises(SettingError, match=r"weights is missing\.ckpt, expected a file"):
        Frozen(conv4(), "missing.ckpt")
    with pytest.raises(SettingError, match=r"is a folder; that of a run has .*/checkpoints/best\.ckpt"):
        Frozen(conv4(), str(path.parent))
    with pytest.raises(SettingError, match="sha256 is 00"):
        Frozen(conv4(), str(path), sha256="00")
