"""``predict --support`` and ``export`` on a run of Glyphs: the files, the threshold, and the mistakes."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import metalit
from commands import changed, complaint, maml, write_yaml
from metalit.data import Sinusoid
from metalit.inference import Recogniser, TrainedModel
from metalit.inference.calibration import calibration_key
from metalit.inference.photos import PhotoSource
from metalit.inference.predicting import learn_given, source_of
from metalit.inference.threshold import Threshold, best_temperature, calibrated, threshold_of
from metalit.main import main

NAMES = ["oak", "elm", "ash", "yew"]


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """Drawings, dark on light: ``labelled/<class>/*`` of four test classes, and ``new/*``."""
    folder = tmp_path_factory.mktemp("drawings")
    (folder / "new").mkdir()
    store = metalit.data.Glyphs(classes=8, eval_classes=5).load("test")
    for number, name in enumerate(NAMES):
        (folder / "labelled" / name).mkdir(parents=True)
        for photo in range(5):
            place = folder / "labelled" / name / f"{photo}.png" if photo < 3 else folder / "new" / f"{name}{photo}.png"
            Image.fromarray(255 - store.items[20 * number + photo, 0].numpy()).save(place)
    return folder


def options(run, drawings, **others):
    given = {"run_dir": run, "support": drawings / "labelled", **others}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def test_more_classes_than_in_training(run, drawings, tmp_path):
    main(["predict", *options(run, drawings, query=drawings / "new", to=tmp_path, threshold=0.3)])
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == [
        "file",
        "prediction",
        "known",
        "confidence",
        "most_likely",
        *(f"P({name})" for name in sorted(NAMES)),
    ]
    paths = [drawings / "labelled" / name / f"{photo}.png" for name in sorted(NAMES) for photo in range(3)]
    recogniser = Recogniser.learn(TrainedModel.of_run(run), paths, [path.parent.name for path in paths])
    # a threshold that is given replaces the threshold only: the temperature is calibrated
    model = recogniser.model
    threshold = calibrated(model.learner, model.data, ways=4, shots=3, value=0.3)
    assert threshold.temperature != 1
    recogniser = recogniser.with_threshold(threshold)
    expected = recogniser.probabilities([drawings / "new" / row[0] for row in rows[1:]])
    np.testing.assert_allclose([[float(value) for value in row[5:]] for row in rows[1:]], expected, atol=1e-6)
    assert [row[2] for row in rows[1:]] == ["yes" if highest >= 0.3 else "no" for highest in expected.max(axis=1)]


def test_older_predictions_are_kept(run, drawings, tmp_path):
    (tmp_path / "predictions.csv").write_text("those of yesterday")
    photo = drawings / "new" / "oak3.png"
    main(["predict", *options(run, drawings, query=photo, to=tmp_path, threshold=0.3)])
    assert (tmp_path / "predictions-1.csv").read_text() == "those of yesterday"
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 2


def logits_of(confidences):
    """Logits of two classes whose highest is the confidence."""
    return torch.tensor([[each, each - 1] for each in confidences], dtype=torch.float64)


def test_the_threshold_keeps_95_percent():
    known, others = logits_of(np.linspace(0.5, 1, 1001)), logits_of(np.linspace(0, 0.6, 7))
    settings = Threshold(0.0, score="logit")
    threshold = threshold_of(known, others, settings)
    assert threshold.value == pytest.approx(0.525)
    assert threshold.kept == pytest.approx(0.95, abs=0.001)
    assert threshold.found == pytest.approx(6 / 7)
    assert threshold_of(known, others[:0], settings).found is None
    assert threshold_of(logits_of([0.7] * 10), others, settings).kept == 1  # ties are kept
    # their probabilities are all the same
    assert threshold_of(known, others, Threshold(0.0)).found == 0


@pytest.mark.parametrize(
    ("value", "shown"), [(0.7, "0.700"), (0.9994, "0.999"), (0.99997, "1 - 3e-05"), (1.0, "1.000")]
)
def test_a_threshold_just_below_1_does_not_look_like_1(value, shown):
    assert f"probability below {shown}," in str(Threshold(value))
    assert f"probability below {shown}," in str(Threshold(value, kept=0.95, found=0.5))


def test_a_threshold_that_finds_few_strangers_comes_with_a_caution():
    assert "most photos of other classes" in " ".join(Threshold(0.9, kept=0.95, found=0.1).caution("photos"))
    for harmless in (Threshold(0.9), Threshold(0.9, kept=0.95), Threshold(0.9, kept=0.95, found=0.6)):
        assert harmless.caution() == []


def test_the_temperature_makes_probabilities_frequencies():
    torch.manual_seed(0)
    logits = torch.randn(20_000, 4, dtype=torch.float64)
    labels = torch.multinomial((logits / 0.5).softmax(-1), 1)[:, 0]  # as often as their probability at 0.5
    for scale in (1.0, 1e4, 1e-2):  # of distances in an embedding
        assert best_temperature(scale * logits, labels) == pytest.approx(0.5 * scale, rel=0.03)


def test_the_temperature_is_in_the_probabilities(run, drawings):
    model = TrainedModel.of_run(run)
    recogniser, examples = learn_given(model, PhotoSource(model.form), drawings / "labelled")
    before = recogniser.probabilities(examples.items)
    after = recogniser.with_threshold(Threshold(0.5, temperature=3.0)).probabilities(examples.items)
    warmed = before ** (1 / 3)
    np.testing.assert_allclose(after, warmed / warmed.sum(axis=1, keepdims=True), atol=1e-6)
    assert not np.allclose(after, before)


def test_the_threshold_is_of_the_same_task_as_the_users(run, monkeypatch):
    monkeypatch.setattr("metalit.inference.threshold.EPISODES", 15)
    model = TrainedModel.of_run(run)
    threshold = calibrated(model.learner, model.data, ways=2, shots=4)
    assert (threshold.ways, threshold.shots) == (2, 4)
    assert threshold.kept >= 0.95
    assert 0 <= threshold.found <= 1
    assert calibrated(model.learner, model.data, ways=2, shots=4) == threshold
    most = calibrated(model.learner, model.data, ways=9, shots=99)
    assert (most.ways, most.shots, most.found) == (5, 15, None)  # of five validation classes, no stranger is left


def test_a_threshold_that_is_given_is_measured(run, monkeypatch):
    monkeypatch.setattr("metalit.inference.threshold.EPISODES", 15)
    model = TrainedModel.of_run(run)
    task = {"ways": 2, "shots": 3}
    own, given = (calibrated(model.learner, model.data, **task, value=value) for value in (None, 0.6))
    assert (given.value, given.score, given.temperature) == (0.6, "probability", own.temperature)
    lower = calibrated(model.learner, model.data, **task, value=0.0)
    assert (lower.kept, lower.found) == (1, 0)
    assert lower.kept > given.kept
    assert lower.found < given.found
    assert "probability below 0.600, as given, which keeps" in str(given)


def test_a_threshold_that_is_given_needs_no_data_of_the_training(run, drawings, tmp_path, capsys, monkeypatch):
    """The probabilities are then the method's own, and the command says so."""

    def lost(self):
        raise FileNotFoundError("no such file")

    monkeypatch.setattr("metalit.data.Glyphs.prepare_data", lost)
    words = options(run, drawings, query=drawings / "new", to=tmp_path)
    said = complaint(capsys, lambda: main(["predict", *words]))
    assert "which cannot be read (no such file); choose a threshold yourself by --threshold" in said
    main(["predict", *words, "--threshold", "0.3"])
    said = " ".join(capsys.readouterr().out.split())
    assert "The probabilities are the method's own, without a temperature: " in said
    assert "probability below 0.300, as given" in said


def test_how_many_episodes_calibrate_is_the_users_choice(run, drawings, tmp_path, capsys):
    words = options(run, drawings, query=drawings / "new", to=tmp_path)
    main(["predict", *words, "--calibration_episodes", "7"])
    assert "(7 validation episodes, " in " ".join(capsys.readouterr().out.split())
    main(["predict", *words, "--calibration_episodes", "0"])
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert {row["known"] for row in csv.DictReader(file)} == {"yes"}
    said = complaint(capsys, lambda: main(["predict", *words, "--calibration_episodes", "-1"]))
    assert "calibration_episodes is -1, expected at least 0" in said


def test_a_calibration_is_computed_once(run, drawings, tmp_path, monkeypatch):
    """For ``predict`` and ``export`` of the same task; other weights or another task have one of their own."""
    calls = []

    def counted(*args, **options):
        calls.append(args[2:4])
        return calibrated(*args, **options)

    monkeypatch.setattr("metalit.commands.use.EPISODES", 5)
    monkeypatch.setattr("metalit.commands.use.calibrated", counted)
    shutil.copytree(run, tmp_path / "run")
    words = options(tmp_path / "run", drawings, to=tmp_path)
    main(["predict", *words, "--query", str(drawings / "new")])
    first = (tmp_path / "predictions.csv").read_text()
    main(["export", *options(tmp_path / "run", drawings, to=tmp_path / "model.pt2")])
    main(["predict", *words, "--query", str(drawings / "new")])
    assert (tmp_path / "predictions.csv").read_text() == first
    assert calls == [(4, 3)]
    shutil.copytree(drawings / "labelled", tmp_path / "fewer")
    shutil.rmtree(tmp_path / "fewer" / "elm")
    main(
        [
            "predict",
            *options(tmp_path / "run", drawings, to=tmp_path, query=drawings / "new", support=tmp_path / "fewer"),
        ]
    )
    assert calls[1:] == [(3, 3)]
    (tmp_path / "run" / "calibration.json").write_text("damaged")
    main(["predict", *words, "--query", str(drawings / "new")])
    assert (tmp_path / "predictions.csv").read_text() == first
    assert calls[2:] == [(4, 3)]


def test_the_key_of_a_calibration_goes_by_weights_and_data(run):
    model = TrainedModel.of_run(run)
    data, other = model.data, metalit.data.Glyphs(classes=8, eval_classes=5, seed=1, queries=2)
    keys = [calibration_key(model.learner, data, 2, 3, None), calibration_key(model.learner, data, 2, 3, 0.5)]
    keys += [calibration_key(model.learner, data, 3, 3, None), calibration_key(model.learner, other, 2, 3, None)]
    data.stores["val"].items[0, 0, 0, 0] ^= 255
    keys.append(calibration_key(model.learner, data, 2, 3, None))
    next(model.learner.parameters()).data[0] += 1
    keys.append(calibration_key(model.learner, data, 2, 3, None))
    assert len(set(keys)) == 6


def test_mistakes(run, drawings, tmp_path, capsys, monkeypatch):
    def refused(message, command="predict", **others):
        words = options(run, drawings, **{"query": drawings / "new", "threshold": 0.5, **others})
        said = complaint(capsys, lambda: main([command, *words]))
        assert message in said, said

    refused("there is no folder", support=tmp_path / "nowhere")
    refused("threshold is 1.5, expected a probability in [0, 1]", threshold=1.5)
    (tmp_path / "one" / "oak").mkdir(parents=True)
    shutil.copy(drawings / "new" / "oak3.png", tmp_path / "one" / "oak")
    refused("has one class, oak: give examples of at least two", support=tmp_path / "one")
    shutil.copytree(drawings / "labelled", tmp_path / "labelled")
    (tmp_path / "labelled" / "elm" / "no.png").write_text("text")
    refused("elm/no.png: ", support=tmp_path / "labelled")
    refused("which does not exist; give the folder of a run", run_dir=tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    said = complaint(capsys, lambda: main(["predict", "--support", "labelled", "--query", "one"]))
    assert "there is no run below" in said
    words = options(run, drawings, to=tmp_path / "model.pb", threshold=0.5)
    assert "expected a file name that ends in .onnx or .pt2" in complaint(capsys, lambda: main(["export", *words]))


@pytest.mark.parametrize("device", ["nowhere", "meta:x"])
def test_a_device_that_is_not_there(run, drawings, tmp_path, capsys, device):
    words = options(run, drawings, query=drawings / "new", to=tmp_path, threshold=0.5, device=device)
    with pytest.raises(SystemExit) as end:
        main(["predict", *words])
    assert end.value.code == 2
    assert f"device is {device}, expected cpu" in capsys.readouterr().err


def test_a_method_with_a_fixed_number_of_ways_says_so(drawings, tmp_path, capsys):
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {"data.init_args.ways": 3}))
    main(["fit", "--config", config, "--run_dir", str(tmp_path / "run")])
    words = options(tmp_path / "run", drawings, query=drawings / "new", threshold=0.5)
    said = complaint(capsys, lambda: main(["predict", *words]))
    assert "the support set has 4 classes, but the network 3 outputs: a MAML learns tasks of as many classes" in said


def test_data_that_are_no_images(run):
    model = TrainedModel.of_run(run)._replace(form=None, data=Sinusoid())
    with pytest.raises(ValueError, match="trained on Sinusoid, which does not say how a photo or a text becomes"):
        source_of(model)


def test_without_support_test_episodes_are_predicted(run, capsys):
    main(["predict", "--config", str(run / "config.yaml"), "--run_dir", str(run), "--ckpt_path", "best"])
    with (run / "predictions.csv").open() as file:
        columns = next(csv.reader(file))
    assert columns[:5] == ["episode", "query", "target", "prediction", "probability"]
