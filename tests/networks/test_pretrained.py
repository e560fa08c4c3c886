"""Models of transformers in their real folders, with tiny random weights: loading, pooling, freezing, gradients."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._pytree import tree_map

from metalit import Engine, Episode, Labelled
from metalit.algorithms import MAML
from metalit.errors import SettingError
from metalit.networks import Classifier, Pretrained
from metalit.networks.pretrained.from_transformers import preprocessing_of

transformers = pytest.importorskip("transformers", reason="needs metalit[vision], which is not installed")

MODELS = ("vit", "resnet", "convnext", "dinov2")
TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
PROCESSOR = {
    "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 20}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 16, "width": 16}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "do_convert_rgb": True,
}  # fmt: skip


def model_of(name):
    torch.manual_seed(0)
    if name == "vit":
        return transformers.ViTModel(transformers.ViTConfig(intermediate_size=32, **TRANSFORMER))
    if name == "dinov2":
        return transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=2, **TRANSFORMER))
    if name == "resnet":
        settings = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 2], "layer_type": "basic"}
        return transformers.ResNetModel(transformers.ResNetConfig(**settings))
    return transformers.ConvNextModel(
        transformers.ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], patch_size=2)
    )


def write(folder, model, **processor):
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **processor}))
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: write(root / name, model_of(name)) for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_embedding_is_that_of_the_model_itself(folders, name):
    network, model = Pretrained(folders[name]), model_of(name).eval()
    images = torch.randint(256, (2, 3, 25, 25), dtype=torch.uint8)
    expected = model(network.preprocessing(images / 255)).pooler_output.flatten(1)
    torch.testing.assert_close(network(images / 255), expected)
    assert network.features == expected.shape[1]
    assert network.setting()["backbone_output"] == "pooled output"
    assert network.frozen


def test_preprocessing_is_the_processors(folders):
    pixels = np.random.default_rng(0).integers(256, size=(25, 30, 3), dtype=np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(folders["dinov2"])
    expected = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    found = Pretrained(folders["dinov2"]).preprocessing(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    # Pillow rounds and clamps to whole grey values after each direction; a grey value is 1 / 255 / std here
    difference = (found - expected).abs() * 255 * torch.tensor([0.2, 0.3, 0.4]).reshape(3, 1, 1)
    assert difference.mean() < 0.4
    assert difference.quantile(0.99) < 1.5


@pytest.mark.parametrize(
    ("settings", "size", "edge"),
    [
        ({"size": {"height": 24, "width": 20}}, (24, 20), None),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), 256),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), None),
        ({"size": {"shortest_edge": 32}}, (32, 32), 32),
    ],
)
def test_sizes_of_processors(settings, size, edge):
    step = preprocessing_of({**PROCESSOR, "do_center_crop": False, **settings}, None)
    assert (step.image_size, step.shortest_edge, step.interpolation) == (size, edge, "bicubic")
    assert preprocessing_of({**PROCESSOR, **settings}, 96).image_size == (96, 96)


def test_a_scale_other_than_255_is_folded_into_the_mean():
    processor = {**PROCESSOR, "rescale_factor": 1 / 127.5, "rescale_offset": True, "size": {"height": 2, "width": 2}}
    white = preprocessing_of({**processor, "do_center_crop": False}, None)(torch.ones(1, 3, 2, 2))
    torch.testing.assert_close(white[0, :, 0, 0], (1 - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.3, 0.4]))


def test_a_pooler_without_weights_is_not_used(tmp_path):
    config = transformers.ViTConfig(intermediate_size=32, **TRANSFORMER)
    folder = write(tmp_path, transformers.ViTForImageClassification(config))
    network = Pretrained(folder)  # a file saved with a classifier has no pooler: torch would draw one at random
    assert network.setting()["backbone_output"] == "class token"
    again = Pretrained(folder)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(network(x), again(x))


def test_layer_pool_and_size_can_be_chosen(folders):
    network = Pretrained(folders["vit"], image_size=32, pool="mean", layer=1)
    images = torch.rand(2, 3, 16, 16)
    tokens = network.encoder(
        network.preprocessing(images), interpolate_pos_encoding=True, output_hidden_states=True
    ).hidden_states[1]
    assert tokens.shape[1] == 17  # sixteen patches and the class token
    torch.testing.assert_close(network(images), tokens.mean(dim=1))
    with pytest.raises(SettingError, match="layer"):
        Pretrained(folders["vit"], layer=1)
    with pytest.raises(SettingError, match="layer"):
        Pretrained(folders["vit"], pool="first", layer=9)


def test_text_and_image_models_give_projected_images(tmp_path):
    vision = {"intermediate_size": 32, **TRANSFORMER}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99, "eos_token_id": 1,
            "bos_token_id": 0}  # fmt: skip
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)
    model = transformers.CLIPModel(config).eval()
    network, images = Pretrained(write(tmp_path, model)), torch.rand(2, 3, 16, 16)
    expected = model.get_image_features(network.preprocessing(images)).pooler_output
    torch.testing.assert_close(network(images), expected)
    assert not any("text" in name for name, _ in network.named_parameters())


def test_last_blocks_are_trained(folders):
    network = Pretrained(folders["dinov2"], trained=1)
    trained = {name for name, parameter in network.encoder.named_parameters() if parameter.requires_grad}
    assert {name.rsplit(".", 1)[0] for name in trained if "layer.2" not in name} == {"layernorm"}
    assert not any("embeddings" in name or "layer.1." in name for name in trained)
    assert len(trained) > 10
    network.train()
    assert not network.encoder.encoder.layer[0].training
    assert network.encoder.encoder.layer[2].training


def meta_gradient(folder, engine, trained):
    torch.manual_seed(1)
    network = Classifier(Pretrained(folder, trained=trained), ways=2).double()
    learner = MAML(network, 0.1, adapted=["head.*"], engine=engine)
    part = Labelled(torch.rand(2, 4, 3, 16, 16, dtype=torch.float64), torch.tensor([[0, 1, 0, 1]] * 2))
    episode = Episode(part, tree_map(lambda x: x.flip(1), part), torch.arange(2))
    learner.meta_loss(episode).backward()
    return {name: value.grad for name, value in learner.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(("name", "trained"), [("vit", 1), ("dinov2", "none"), ("resnet", 1), ("convnext", 1)])
def test_meta_gradient_is_that_of_a_loop(folders, name, trained):
    found, expected = (meta_gradient(folders[name], Engine(mapping=by), trained) for by in ("vmap", "loop"))
    assert found.keys() == expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-8, atol=1e-11, msg=key)


def test_files_that_could_execute_code_are_refused(tmp_path):
    model = model_of("resnet")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SettingError, match="safetensors"):
        Pretrained(str(tmp_path))


def test_files_that_lack_weights_are_refused(tmp_path):
    model = model_of("resnet")
    del model.encoder.stages[1].layers[1]
    folder = write(tmp_path, model)
    with pytest.raises(SettingError, match="lacks encoder"):
        Pretrained(folder)


def test_what_is_not_there_is_one_message(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="there is none"):
        Pretrained(str(tmp_path / "nothing"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SettingError, match="hf download nobody/nothing"):
        Pretrained("nobody/nothing")


def test_timm_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ImportError, match=rf"torch=={torch.__version__.replace('+', '.')}"):
        Pretrained("timm/resnet18.a1_in1k")


def test_transformers_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match="vision"):
        Pretrained("facebook/dinov2-small")
