"""Frozen features: computed once, found again under the same key alone, and served to every kind of method."""

import logging
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from metalit.algorithms import ANIL, LEO, R2D2, PrototypicalNetwork, SimpleShot
from metalit.data import Augmentation, ClassificationDataModule, ClassStore, Glyphs
from metalit.data.features import FrozenFeatures
from metalit.errors import SettingError, UserError
from metalit.networks import MLP, Backbone, Classifier, Conv4, Vectors

FEATURES = 6


class Pictures(ClassificationDataModule):
    """A few random images per class."""

    def load(self, split):
        generator = torch.Generator().manual_seed(len(split))
        images = torch.randint(256, (8 * 6, 3, 10, 10), dtype=torch.uint8, generator=generator)
        images += 20 * torch.arange(8, dtype=torch.uint8).repeat_interleave(6).reshape(-1, 1, 1, 1)
        return ClassStore(images, np.full(8, 6), [f"{split} {c}" for c in range(8)])


def network(seed=0, **settings):
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, FEATURES, 3), nn.BatchNorm2d(FEATURES), nn.ReLU())
    return Backbone(layers, **({"image_size": 8, "mean": [0.5] * 3, "std": [0.2] * 3} | settings))


def pictures(root, features=None, **settings):
    features = network() if features is None else features
    sizes = {"ways": 2, "shots": 1, "queries": 2, "tasks_per_batch": 2, "episodes_per_epoch": 4}
    return Pictures(root=str(root), features=features, val_episodes=2, test_episodes=4, **sizes, **settings)


def test_serves_the_embeddings_of_the_images(tmp_path):
    data, plain = pictures(tmp_path), Pictures(ways=2, shots=1, queries=2)
    found, images = data.episodes("test", 3, 2), plain.episodes("test", 3, 2)
    assert found.support.x.shape == (2, 2, FEATURES)
    expected = network().eval()(images.query.x.flatten(0, 1)).unflatten(0, (2, 4))
    torch.testing.assert_close(found.query.x, expected)
    assert torch.equal(found.query.y, images.query.y)
    assert data.stores["test"].class_names == plain.stores["test"].class_names


def test_embeds_new_images_alike(tmp_path):
    data = pictures(tmp_path, features_dtype="float16")
    store = data.load("test")
    data.episodes("test")
    embedded = data.embed(store.items[:3])
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded, data.stores["test"].items[:3].float())
    assert data.stores["test"].items.dtype == torch.float16
    assert torch.equal(Pictures().embed(store.items[:3]), store.items[:3] / 255)


def logged(caplog, root, *args, **settings):
    caplog.clear()
    with caplog.at_level(logging.INFO):
        pictures(root, *args, **settings).episodes("test")
    return "hit" if "cache hit" in caplog.text else "miss" if "cache miss" in caplog.text else None


def test_finds_them_again_under_the_same_key_alone(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")
    logging.getLogger("lightning.pytorch").propagate = True
    assert logged(caplog, tmp_path) == "miss"
    assert logged(caplog, tmp_path) == "hit"
    others = [network(seed=1), network(image_size=9), network(std=[0.3] * 3), network(interpolation="bicubic")]
    others.append(network(pool="flatten"))
    for other in others:  # weights, and each part of the preprocessing
        assert logged(caplog, tmp_path, other) == "miss"
    assert logged(caplog, tmp_path, features_dtype="float16") == "miss"
    assert logged(caplog, tmp_path, seed=5) == "hit"  # other episodes of the same images


def test_other_images_have_another_key():
    store, features = Pictures().load("test"), FrozenFeatures(network())
    changed = ClassStore(store.items.clone(), store.class_sizes, store.class_names)
    assert features.key(changed) == features.key(store)
    changed.items[7, 0, 0, 0] += 1
    assert features.key(changed) != features.key(store)


def test_a_number_of_a_module_is_part_of_the_key():
    store = Pictures().load("test")

    def key(slope):
        return FrozenFeatures(network_with(nn.LeakyReLU(slope))).key(store)

    assert key(0.1) != key(0.2)
    assert key(0.1) == key(0.1)


def network_with(layer):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), layer, nn.Flatten()).requires_grad_(False)


class Pointwise(nn.Module):
    """A network that keeps a function, and a tensor that is no buffer."""

    def __init__(self, function, shift):
        super().__init__()
        self.function, self.options, self.shift = function, {"shift": shift}, torch.tensor(shift)

    def forward(self, x):
        return self.function(x + self.shift).flatten(1)


def test_functions_and_tensors_that_a_module_keeps_are_part_of_the_key():
    """Neither is among the weights, and both change the embeddings."""
    store = Pictures().load("test")
    keys = {
        FrozenFeatures(Pointwise(function, shift)).key(store)
        for function in (torch.relu, torch.tanh, partial(torch.clamp, min=0.5), partial(torch.clamp, min=0.1))
        for shift in (0.0, 1.0)
    }
    assert len(keys) == 8
    again = FrozenFeatures(Pointwise(partial(torch.clamp, min=0.5), 1.0))
    assert again.key(store) in keys


def test_a_damaged_cache_is_computed_again(tmp_path):
    data = pictures(tmp_path)
    expected = data.episodes("test").query.x
    (file,) = (tmp_path / "metalit-cache").glob("features-test-*.npz")
    file.write_bytes(file.read_bytes()[:200])
    assert torch.equal(pictures(tmp_path).episodes("test").query.x, expected)


@pytest.mark.parametrize("trained", [2, "all"])
def test_a_trained_network_is_refused(tmp_path, trained):
    with pytest.raises(SettingError, match=r"data\.features"):
        pictures(tmp_path, network(trained=trained))


def test_statistics_of_the_batch_are_refused(tmp_path):
    with pytest.raises(SettingError, match="statistics"):
        pictures(tmp_path, Conv4(image_size=16, batch_norm="batch").requires_grad_(False))


def test_augmentation_is_refused(tmp_path):
    with pytest.raises(SettingError, match=r"data\.augmentation"):
        pictures(tmp_path, augmentation=Augmentation(flip=True))


class Noisy(nn.Module):
    def forward(self, x):
        return x.flatten(1) + torch.rand(len(x), 1)


class Centred(nn.Module):
    def forward(self, x):
        return x.flatten(1) - x.flatten(1).mean(dim=0)


@pytest.mark.parametrize("layer", [Noisy(), Centred()])
def test_embeddings_that_vary_are_refused(tmp_path, layer):
    with pytest.raises(UserError, match="different embeddings"):
        pictures(tmp_path, layer).episodes("test")


def test_outputs_that_are_no_embeddings_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected embeddings"):
        pictures(tmp_path, nn.Identity()).episodes("test")
    with pytest.raises(UserError, match="does not take images"):
        pictures(tmp_path, nn.Linear(3, 2).requires_grad_(False)).episodes("test")


def test_numbers_beyond_half_precision_are_refused(tmp_path):
    with pytest.raises(UserError, match="features_dtype"):
        pictures(tmp_path, network(std=[1e-6] * 3), features_dtype="float16").episodes("test")


METHODS = {
    "ProtoNet": lambda: PrototypicalNetwork(Vectors(FEATURES)),
    "ProtoNet with an MLP": lambda: PrototypicalNetwork(MLP(FEATURES, [8], 4)),
    "SimpleShot": lambda: SimpleShot(nn.Identity(), classes=8, features=FEATURES),
    "R2D2": lambda: R2D2(nn.Identity()),
    "LEO": lambda: LEO(Classifier(nn.Identity(), ways=2, features=FEATURES), latents=4, latent_lr=0.1),
    "ANIL": lambda: ANIL(Classifier(MLP(FEATURES, [8], 5), ways=2)),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:The 'test_dataloader' does not have many workers:UserWarning")
def test_methods_run_on_features(tmp_path, name):
    learner = METHODS[name]()
    labels = {"train_labels": "split"} if name == "SimpleShot" else {}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", inference_mode=False, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    data = pictures(tmp_path, **labels)
    if any(parameter.requires_grad for parameter in learner.parameters()):
        trainer.fit(learner, data)
    (results,) = trainer.test(learner, data, verbose=False)
    assert 0 <= results["test/accuracy"] <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PrototypicalNetwork(Vectors(FEATURES + 1)),
        lambda: LEO(Classifier(nn.Identity(), ways=2, features=FEATURES + 1), latents=4),
        lambda: ANIL(Classifier(nn.Identity(), ways=2, features=FEATURES + 1)),
    ],
)
def test_another_length_is_refused_by_name(tmp_path, wrong):
    episode = pictures(tmp_path).episodes("test")
    with pytest.raises(SettingError) as error:
        wrong().evaluate(episode)
    assert error.value.name in ("inputs", "features")
    assert error.value.value == FEATURES + 1
    assert str(FEATURES) in error.value.expected


def test_results_say_what_the_features_are(tmp_path):
    setting = pictures(tmp_path, network(pretrained_on="noise, no classes"), features_dtype="float16").setting()
    assert setting["features"] == "float16"
    assert setting["pretrained_on"] == "noise, no classes"
    assert setting["backbone_input"] == "8x8 bilinear"
    assert "sha256" in pictures(tmp_path, network_with(nn.ReLU())).setting()["backbone_weights"]


def test_without_features_nothing_changes():
    assert "features" not in Glyphs(classes=4).setting()
