"""A classifier of an adapted language model is saved and opened: the adapters' weights and the model's architecture."""

import shutil

import numpy as np
import pytest
import torch

import metalit.networks
from metalit.algorithms import ContrastiveProbe, PrototypicalNetwork
from metalit.data.texts import PretrainedTokenizer, TextForm
from metalit.inference import Recogniser, TrainedModel, load_recogniser, save_recogniser
from miniature_texts import write_language_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jsonargparse's, in metalit.loading
pytest.importorskip("transformers", reason="needs metalit[text], which is not installed")
QUESTIONS = ["is my card lost", "how much", "where is my account"]
ADAPTERS = {
    "LoRA": {"layers": ["*.query", "*.value"], "rank": 2, "init": 0.3},
    "Bottleneck": {"layers": ["*.output.dense"], "width": 2, "init": 0.3},
    "SoftPrompt": {"length": 2},
    "Tuned": {"trained": ["*LayerNorm*"]},
    "Peft": {"options": {"r": 2, "target_modules": ["query"], "init_lora_weights": False}},
}


@pytest.mark.parametrize(
    ("adapter", "method"),
    [*((adapter, PrototypicalNetwork) for adapter in ADAPTERS), ("LoRA", ContrastiveProbe)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_it_opens_without_the_models_folder(adapter, method, tmp_path):
    if adapter == "Peft":
        pytest.importorskip("peft", reason="needs metalit[text], which is not installed")
    folder = write_language_model(tmp_path / "model")
    inner = {"class_path": "metalit.networks.PretrainedText", "init_args": {"name_or_path": str(folder)}}
    options = {**ADAPTERS[adapter], "network": inner}
    settings = {
        "class_path": f"metalit.algorithms.{method.__name__}",
        "init_args": {"network": {"class_path": f"metalit.networks.{adapter}", "init_args": options}},
    }
    torch.manual_seed(0)
    model = metalit.networks.PretrainedText(str(folder))
    learner = method(getattr(metalit.networks, adapter)(model, **ADAPTERS[adapter]))
    form = TextForm(PretrainedTokenizer(str(folder)), max_length=20)
    texts, labels = ["the card is lost", "lost my card", "what is my balance", "how much money"], [0, 0, 1, 1]
    recogniser = Recogniser.learn(TrainedModel(learner, form), texts, labels).with_settings(settings)
    expected = recogniser.probabilities(QUESTIONS)
    save_recogniser(recogniser, tmp_path / "saved")
    shutil.rmtree(folder)
    opened = load_recogniser(tmp_path / "saved")
    np.testing.assert_array_equal(opened.probabilities(QUESTIONS), expected)
    assert opened.predictor.learner.setting() == recogniser.predictor.learner.setting()
