"""The scikit-learn estimator: scikit-learn's own checks, and predictions that are the test's."""

import csv
import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import metalit
from cases import CASES
from metalit import MAML, FewShotClassifier, PrototypicalNetwork
from metalit.algorithms import R2D2
from metalit.data import PictureForm
from metalit.inference.examples import as_examples
from metalit.main import main
from metalit.networks import MLP, Classifier, Conv4

REASONS = {
    "check_estimators_overwrite_params": "joblib hashes a network and its deep copy differently, so the check finds a "
    "change in any estimator that has one as a parameter; test_fit_leaves_the_learner_as_it_was compares the weights",
}


@parametrize_with_checks(
    [FewShotClassifier(PrototypicalNetwork(nn.Identity())), FewShotClassifier(R2D2(nn.Identity()))],
    expected_failed_checks=lambda estimator: REASONS,
)
def test_scikit_learns_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks themselves do what they must
        check(estimator)


def one(episode, task=0):
    return (episode.support.x[task], episode.support.y[task], episode.query.x[task], episode.query.y[task])


@pytest.mark.parametrize("name", ["PrototypicalNetwork", "MAML", "RelationNetwork", "MANN"])
def test_it_predicts_as_the_test_does(name):
    torch.manual_seed(0)
    learner, data = CASES[name].make("glyphs").eval(), CASES[name].data("glyphs")
    episode = data.episodes("test", 0, 2)
    expected = learner.evaluate(episode).predictions[:, -1].double().softmax(-1)
    for task in range(2):
        x, y, queries, _ = one(episode, task)
        found = FewShotClassifier(learner).fit(x, y).predict_proba(queries)
        np.testing.assert_allclose(found, expected[task].numpy(), atol=1e-6)


def test_a_run_predicts_as_its_test_did(run):
    main(["test", "--config", str(run / "config.yaml"), "--run_dir", str(run), "--ckpt_path", "best"])
    with (run / "episodes.csv").open() as file:
        accuracies = [float(row["accuracy"]) for row in csv.DictReader(file)]
    _, data = metalit.load(run)
    classifier = FewShotClassifier(str(run))
    names = np.array(["oak", "elm", "ash"])
    for number in range(4):
        x, y, queries, targets = one(data.episodes("test", number))
        found = classifier.fit(x, names[y]).predict(queries)
        assert set(found) <= set(names)
        assert (found == names[targets]).mean() == pytest.approx(accuracies[number])


def test_uint8_images_in_every_layout(run):
    learner, data = metalit.load(run)
    images = data.load("test").items
    x, y = images[:60:10], [0, 1, 1, 0, 1, 0]
    expected = FewShotClassifier(learner, form=PictureForm(28, channels=1)).fit(x, y).predict_proba(images[:9])
    for layout in (
        lambda x: x[:, 0].numpy(),
        lambda x: x.permute(0, 2, 3, 1).numpy(),
        lambda x: x.double().numpy() / 255,
    ):
        classifier = FewShotClassifier(run).fit(layout(x), y)
        np.testing.assert_allclose(classifier.predict_proba(layout(images[:9])), expected, atol=1e-6)


def test_grey_arrays_become_colour_as_grey_files_do(tmp_path):
    grey = np.random.default_rng(0).integers(256, size=(4, 8, 8), dtype=np.uint8)
    form, paths = PictureForm(8), [tmp_path / f"{number}.png" for number in range(4)]
    for path, pixels in zip(paths, grey, strict=True):
        Image.fromarray(pixels).save(path)
    files = as_examples(paths, form, torch.float32)
    assert torch.equal(as_examples(grey, form, torch.float32), files)
    torch.testing.assert_close(as_examples(grey / 255, form, torch.float32), files / 255)


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_numbers_up_to_255_are_not_taken_for_images(run, dtype):
    """An array that has left uint8 is not scaled, and the network has never seen such numbers."""
    x = np.random.default_rng(0).integers(256, size=(4, 28, 28)).astype(dtype)
    with pytest.raises(ValueError, match=r"numbers from 0 to 255, expected uint8, or floats in \[0, 1\]"):
        FewShotClassifier(run).fit(x, [0, 0, 1, 1])


def test_files_and_pictures(run, tmp_path):
    """Dark ink on light paper, as the drawings are files; the data set keeps them inverted."""
    _, data = metalit.load(run)
    images = data.load("test").items
    pictures = [Image.fromarray(255 - image[0].numpy()) for image in images[:30:5]]
    paths = [tmp_path / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    y = list("aabbcc")
    expected = FewShotClassifier(run).fit(images[:30:5], y).predict_proba(images[:30:5])
    for x in (pictures, paths, [str(path) for path in paths], np.array([str(path) for path in paths])):
        classifier = FewShotClassifier(run).fit(x, y)
        np.testing.assert_array_equal(classifier.predict_proba(x), expected)
        assert classifier.classes_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["PrototypicalNetwork", "RelationNetwork"])
def test_one_photo_is_as_among_others_unless_transductive(name):
    torch.manual_seed(0)
    learner, data = CASES[name].make("glyphs"), CASES[name].data("glyphs")
    x, y, queries, _ = one(data.episodes("test"))
    classifier = FewShotClassifier(learner).fit(x, y)
    alone, among = classifier.predict_proba(queries[:1]), classifier.predict_proba(queries)[:1]
    assert np.allclose(alone, among, atol=1e-6) != classifier.recogniser_.transductive


def features(rows=60, width=8):
    random = np.random.default_rng(0)
    y = np.arange(rows) % 3
    return random.normal(size=(rows, width)) + 3 * np.eye(width)[y], np.array(["x", "y", "z"])[y]


def test_cross_validation_and_pipelines():
    x, y = features()
    learner = PrototypicalNetwork(nn.Identity())
    assert cross_val_score(FewShotClassifier(learner), x, y, cv=3).min() > 0.9
    assert cross_val_score(make_pipeline(StandardScaler(), FewShotClassifier(learner)), x, y, cv=3).min() > 0.8


def test_fit_leaves_the_learner_as_it_was():
    torch.manual_seed(0)
    learner = MAML(Classifier(MLP(inputs=8, hidden=[5], outputs=5), ways=3, features=5), inner_lr=0.1)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    x, y = features()
    fitted = FewShotClassifier(learner).fit(x, y)
    copied = clone(fitted)
    assert not hasattr(copied, "classes_")
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in copied.run_or_learner.state_dict().items())
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))


def test_mistakes(run):
    x, y = features()
    with pytest.raises(ValueError, match=r"run_or_learner is a int, expected the folder of a run, or a learner"):
        FewShotClassifier(3).fit(x, y)
    with pytest.raises(FileNotFoundError, match="does not exist; give the folder of a run"):
        FewShotClassifier("nowhere").fit(x, y)
    with pytest.raises(ValueError, match=r"has 2 classes, but the network 3 outputs: a MAML learns tasks of as many"):
        FewShotClassifier(MAML(Classifier(Conv4(4), ways=3), inner_lr=0.1)).fit(np.zeros((4, 1, 28, 28)), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="not known how the model takes them: give form"):
        FewShotClassifier(PrototypicalNetwork(Conv4(4))).fit([Image.new("L", (9, 9))], ["a"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        FewShotClassifier(run).fit([Image.new("L", (9, 9))], ["a", "b"])
