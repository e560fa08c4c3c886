"""Exported programs: their probabilities, their class names, and their refusals."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import metalit
from cases import CASES
from metalit import PrototypicalNetwork
from metalit.inference import Recogniser, TrainedModel
from metalit.inference.exported import Exportable, class_names, export
from metalit.inference.threshold import Threshold

CLASSIFICATION = [name for name, case in CASES.items() if "glyphs" in case.learning]
NOT_EXPRESSIBLE = {
    ("pt2", "MetaNetwork"): "torch.export cannot express a MetaNetwork for any number of inputs",  # one network a query
    ("onnx", "MetaNetwork"): "torch.export cannot express a MetaNetwork for any number of inputs",
    ("onnx", "MANN"): "ONNX cannot express a MANN .*export it to a .pt2 file",  # it sorts its memory
} | {
    # they solve a problem over all queries, in gradient steps or with sizes that depend on how many there are
    (kind, name): f"torch.export cannot express a {name} for any number of inputs"
    for kind in ("pt2", "onnx")
    for name in ("TIM", "AlphaTIM", "LaplacianShot", "PTMAP")
}


def learned(name):
    torch.manual_seed(0)
    learner, data = CASES[name].make("glyphs"), CASES[name].data("glyphs")
    episode = data.episodes("test")
    names = np.array(["oak", "elm", "Esche & Bäume"])[episode.support.y[0]]
    return Recogniser.learn(TrainedModel(learner), episode.support.x[0], names), episode.query.x[0]


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_the_module_that_is_exported_predicts_the_same(name):
    recogniser, queries = learned(name)
    with torch.no_grad():
        found, _ = Exportable(recogniser)(queries)
    np.testing.assert_allclose(found.numpy(), recogniser.probabilities(queries), atol=1e-6)


@pytest.mark.parametrize("name", CLASSIFICATION)
@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.sample(20)
def test_any_method(kind, name, tmp_path):
    recogniser, _ = learned(name)
    path = tmp_path / f"model.{kind}"
    if (kind, name) in NOT_EXPRESSIBLE:
        with pytest.raises(ValueError, match=NOT_EXPRESSIBLE[kind, name]):
            export(recogniser, path)
        assert not list(tmp_path.iterdir())
    else:
        assert export(recogniser, path)["largest_difference"] <= 1e-4


@pytest.mark.parametrize("dtype", ["uint8", pytest.param("float32", marks=pytest.mark.slow)])
def test_onnx_without_metalit(dtype, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    recogniser, queries = learned("PrototypicalNetwork")
    export(recogniser, tmp_path / "model.onnx", dtype)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    images = (queries * 255).to(torch.uint8)
    x = images.numpy() if dtype == "uint8" else images.float().numpy() / 255
    for size in (1, 4, len(x)):
        (found,) = session.run(["probabilities"], {"x": x[:size]})
        np.testing.assert_allclose(found, recogniser.probabilities(images[:size]), atol=1e-4)
    names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    assert names == class_names(tmp_path / "model.onnx") == ["Esche & Bäume", "elm", "oak"]


def test_torch_export_without_metalit(tmp_path):
    recogniser, queries = learned("MAML")
    export(recogniser, tmp_path / "model.pt2")
    images = (queries * 255).to(torch.uint8)
    module = torch.export.load(tmp_path / "model.pt2").module()
    for size in (1, 4, len(images)):
        found = module(images[:size])[0].detach().numpy()
        np.testing.assert_allclose(found, recogniser.probabilities(images[:size]), atol=1e-4)
    assert class_names(tmp_path / "model.pt2") == ["Esche & Bäume", "elm", "oak"]
    beside = json.loads((tmp_path / "model.pt2.json").read_text())
    assert beside["classes"] == ["Esche & Bäume", "elm", "oak"]
    assert (beside["input"]["shape"], beside["input"]["dtype"]) == (["n", 1, 28, 28], "uint8")
    assert beside["input"]["meaning"].startswith("grey in 0 ... 255")


def test_a_program_says_how_confident_it_is(tmp_path):
    recogniser, queries = learned("PrototypicalNetwork")
    decision = Threshold(-20.0, kept=0.95, temperature=7.0, score="logit")
    description = export(recogniser.with_threshold(decision), tmp_path / "model.pt2", "float32")
    probabilities, confidence = torch.export.load(tmp_path / "model.pt2").module()(queries)
    logits = recogniser.logits(queries)
    np.testing.assert_allclose(confidence, logits.amax(-1), rtol=1e-4)
    np.testing.assert_allclose(probabilities, (logits / 7).softmax(-1), atol=1e-4)
    assert (description["none_of_these_below"], description["outputs"][1]["meaning"]) == (-20.0, "logit")


def test_feature_vectors(tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 4))
    recogniser = Recogniser.learn(TrainedModel(PrototypicalNetwork(nn.Identity())), x, list("aabbcc"))
    with pytest.raises(metalit.errors.SettingError, match="float32, for feature vectors"):
        export(recogniser, tmp_path / "model.pt2", "uint8")
    assert export(recogniser, tmp_path / "model.pt2", "float32")["input"]["shape"] == ["n", 4]


def test_a_program_that_differs_is_not_written(tmp_path, monkeypatch):
    recogniser, _ = learned("PrototypicalNetwork")
    monkeypatch.setattr("metalit.inference.exported.TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="outputs differ by"):
        export(recogniser, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_mistakes(tmp_path):
    recogniser, _ = learned("PrototypicalNetwork")
    with pytest.raises(metalit.errors.SettingError, match=r"to is .*model.pb, expected a file name that ends in .onnx"):
        export(recogniser, tmp_path / "model.pb")
    with pytest.raises(metalit.errors.SettingError, match="input is int4, expected uint8 or float32"):
        export(recogniser, tmp_path / "model.onnx", "int4")
