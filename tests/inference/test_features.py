"""A run on cached features: photos are embedded by the frozen backbone wherever the model goes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from commands import TRAINER, write_yaml
from metalit import FewShotClassifier
from metalit.errors import SettingError, UserError
from metalit.inference import Recogniser, TrainedModel, load_recogniser, save_recogniser
from metalit.inference.exported import export
from metalit.main import main
from miniature import write_photos


class Encoder(nn.Module):
    """A small convolution."""

    def __init__(self, width=6):
        super().__init__()
        self.convolution, self.width = nn.Conv2d(3, width, 3, stride=2), width

    def forward(self, x):
        return self.convolution(x).relu()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    write_photos(folder / "pictures", [f"class{number}" for number in range(12)], photos=8)
    torch.save(Encoder().state_dict(), folder / "encoder.pt")
    backbone = {
        "class_path": "metalit.networks.Backbone",
        "init_args": {
            "module": f"{Encoder.__module__}.Encoder",
            "weights": str(folder / "encoder.pt"),
            "mean": [0.5, 0.5, 0.5],
            "std": [0.2, 0.2, 0.2],
        },
    }
    model = {
        "class_path": "metalit.algorithms.PrototypicalNetwork",
        "init_args": {"network": {"class_path": "metalit.networks.MLP", "init_args": {"inputs": 6, "outputs": 5}}},
    }
    sizes = {"ways": 3, "shots": 2, "queries": 2, "episodes_per_epoch": 8, "val_episodes": 4, "test_episodes": 4}
    data = {
        "class_path": "metalit.data.ImageFolder",
        "init_args": {
            **sizes, "root": str(folder / "pictures"), "size": 20, "features": backbone, "decoders": 1,
            "shares": [0.5, 0.25, 0.25],
        },
    }  # fmt: skip
    config = write_yaml(folder / "c.yaml", {"model": model, "data": data, "trainer": TRAINER})
    main(["fit", "--config", config, "--run_dir", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def recogniser(run, tmp_path):
    paths = write_photos(tmp_path / "own", ["oak", "elm"], photos=5)
    return Recogniser.learn(TrainedModel.of_run(run), paths, [path.parent.name for path in paths]), paths


def test_photos_are_embedded_first(recogniser):
    learned, paths = recogniser
    data = learned.model.data
    items = torch.stack([data.example_form().of_file(path) for path in paths])
    expected = learned.predictor(data.embed(items)).double().softmax(-1)
    np.testing.assert_allclose(learned.probabilities(paths), expected.numpy(), atol=1e-6)


def test_the_backbone_is_saved_too(recogniser, run, tmp_path, monkeypatch):
    learned, paths = recogniser
    save_recogniser(learned, tmp_path / "saved")
    weights = run.parent / "encoder.pt"
    monkeypatch.setattr(Path, "is_file", lambda path: path != weights and path.exists())  # as on another machine
    with pytest.raises(SettingError, match=r"encoder\.pt is none"):
        TrainedModel.of_run(run)
    np.testing.assert_array_equal(
        load_recogniser(tmp_path / "saved").probabilities(paths), learned.probabilities(paths)
    )


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_the_program_takes_images(kind, recogniser, tmp_path):
    learned, _ = recogniser
    description = export(learned, tmp_path / f"model.{kind}")
    assert description["input"]["shape"] == ["n", 3, 20, 20]
    assert description["largest_difference"] <= 1e-4


def test_a_classifier_that_was_loaded_learns_photos_again(run, tmp_path):
    """By the features of the first one, also as a copy of scikit-learn's, and is saved again."""
    base = pytest.importorskip("sklearn.base")
    paths = write_photos(tmp_path / "own", ["oak", "elm"], photos=5)
    names = [path.parent.name for path in paths]
    first = FewShotClassifier(run).fit(paths, names)
    first.save(tmp_path / "saved")
    expected = first.predict_proba(paths)
    loaded = FewShotClassifier.load(tmp_path / "saved")
    for again in (base.clone(loaded), loaded):
        np.testing.assert_array_equal(again.fit(paths, names).predict_proba(paths), expected)
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(FewShotClassifier.load(tmp_path / "again").predict_proba(paths), expected)
    settings = loaded.recogniser_.model.settings["model"]
    loaded.save(tmp_path / "given", model=settings)
    np.testing.assert_array_equal(FewShotClassifier.load(tmp_path / "given").predict_proba(paths), expected)


def test_other_weights_in_the_file_of_the_backbone_are_noticed(run, tmp_path):
    """The learner would classify embeddings that it has never seen."""
    weights = run.parent / "encoder.pt"
    before = weights.read_bytes()
    torch.save(Encoder().state_dict(), weights)
    try:
        with pytest.raises(UserError, match=r"data\.features: the network differs from that of the training"):
            TrainedModel.of_run(run)
        config = str(run / "config.yaml")
        with pytest.raises(SystemExit):
            main(["test", "--config", config, "--run_dir", str(run), "--ckpt_path", "best"])
        assert not (run / "results.json").exists()
    finally:
        weights.write_bytes(before)
    TrainedModel.of_run(run)
