"""A classifier as a folder: the same predictions, no code inside, and no data module needed."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

import metalit
from cases import CASES
from commands import changed, protonet, write_yaml
from metalit import Labelled
from metalit.algorithms import PrototypicalNetwork
from metalit.inference import Recogniser, TrainedModel, load_recogniser, save_recogniser
from metalit.inference.saved import FORMAT
from metalit.inference.threshold import Threshold
from metalit.inference.trees import packed, unpacked
from metalit.networks import MLP

CLASSIFICATION = [name for name, case in CASES.items() if "glyphs" in case.learning]


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_what_any_method_has_learned_can_be_saved(name):
    """As JSON and tensors, from which an equal predictor comes."""
    torch.manual_seed(0)
    learner, data = CASES[name].make("glyphs"), CASES[name].data("glyphs")
    episode = data.episodes("test")
    predictor = learner.adapt(Labelled(episode.support.x[0], episode.support.y[0]))
    tensors = []
    text = json.dumps(packed(predictor.state, tensors))
    state = unpacked(json.loads(text), [tensor.clone() for tensor in tensors])
    again = type(predictor).restored(
        learner.evaluation_copy(), state, predictor.classes, predictor.like, predictor.draws
    )
    assert torch.equal(again(episode.query.x[0]), predictor(episode.query.x[0]))


def learned(run):
    data = metalit.load(run).data
    episode = data.episodes("test")
    names = np.array(["oak", "elm", "ash"])[episode.support.y[0]]
    return Recogniser.learn(TrainedModel.of_run(run), episode.support.x[0], names), episode.query.x[0]


OWN_DATA = "from metalit.data import Glyphs\nclass Mine(Glyphs):\n    pass\n"


def test_it_opens_where_the_data_module_of_the_training_does_not_exist(run, tmp_path, monkeypatch):
    """The data module is the user's own, in a file that is gone when the classifier is used."""
    (tmp_path / "own_data.py").write_text(OWN_DATA)
    shutil.copytree(run, tmp_path / "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"]["class_path"] = "own_data.Mine"
    write_yaml(tmp_path / "run" / "config.yaml", settings)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        recogniser, queries = learned(tmp_path / "run")
        assert type(recogniser.model.data).__module__ == "own_data"
        save_recogniser(recogniser, tmp_path / "saved")
        expected = recogniser.probabilities(queries)
    del sys.modules["own_data"]
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "own_data.py").unlink()
    again = load_recogniser(tmp_path / "saved")
    assert again.names == ["ash", "elm", "oak"]
    np.testing.assert_array_equal(again.probabilities(queries), expected)


IN_A_FRESH_PROCESS = """
import sys
import numpy as np
from metalit.inference import load_recogniser
recogniser = load_recogniser("saved")
np.save("found.npy", recogniser.probabilities(np.load("queries.npy")))
print(*recogniser.names)
"""


@pytest.mark.slow  # a fresh Python, which imports everything
def test_it_opens_in_a_fresh_process(run, tmp_path):
    recogniser, queries = learned(run)
    save_recogniser(recogniser, tmp_path / "saved")
    np.save(tmp_path / "queries.npy", queries.numpy())
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "ash elm oak\n"
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), recogniser.probabilities(queries))


def test_there_is_no_pickle_in_it(run, tmp_path):
    recogniser, queries = learned(run)
    save_recogniser(recogniser, tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["classifier.json", "classifier.safetensors"]
    for path in (tmp_path / "saved").iterdir():
        assert b"torch._utils" not in path.read_bytes()
    again = load_recogniser(tmp_path / "saved")
    np.testing.assert_array_equal(again.probabilities(queries), recogniser.probabilities(queries))
    # the meta-learned weights are there too: other classes can be learned
    _, data = metalit.load(run)
    episode = data.episodes("test", 1)
    x, y = episode.support.x[0], episode.support.y[0].tolist()
    one, other = (Recogniser.learn(each.model, x, y).probabilities(queries) for each in (again, recogniser))
    np.testing.assert_array_equal(one, other)


def test_a_folder_of_the_first_format_still_opens(run, tmp_path):
    """Its form has no kind, since all forms were of pictures, and its threshold does not say who chose it."""
    recogniser, queries = learned(run)
    recogniser = recogniser.with_threshold(Threshold(0.5, kept=0.95, temperature=2.0))
    save_recogniser(recogniser, tmp_path)
    described = json.loads((tmp_path / "classifier.json").read_text())
    assert (described.pop("format"), described["form"].pop("kind")) == (2, "picture")
    del described["threshold"]["chosen"]
    (tmp_path / "classifier.json").write_text(json.dumps({**described, "format": 1}))
    again = load_recogniser(tmp_path)
    assert again.model.form == recogniser.model.form
    assert again.threshold == recogniser.threshold
    np.testing.assert_array_equal(again.probabilities(queries), recogniser.probabilities(queries))
    (tmp_path / "classifier.json").write_text(json.dumps({**described, "format": 2, "form": {"kind": "sound"}}))
    with pytest.raises(ValueError, match="its form is that of a sound, expected picture or text"):
        load_recogniser(tmp_path)


def test_the_estimator_saves_itself(run, tmp_path):
    pytest.importorskip("sklearn")
    _, data = metalit.load(run)
    episode = data.episodes("test")
    x, queries = episode.support.x[0].numpy(), episode.query.x[0].numpy()
    y = np.array([3, -1, 7])[episode.support.y[0]]
    classifier = metalit.FewShotClassifier(run).fit(x, y)
    classifier.save(tmp_path / "saved")
    again = metalit.FewShotClassifier.load(tmp_path / "saved")
    assert again.classes_.tolist() == [-1, 3, 7]
    np.testing.assert_array_equal(again.predict(queries), classifier.predict(queries))
    np.testing.assert_array_equal(again.fit(x, y).predict_proba(queries), classifier.predict_proba(queries))


def test_a_learner_of_ones_own_is_saved_with_its_settings(run, tmp_path):
    pytest.importorskip("sklearn")
    learner, data = metalit.load(run)
    episode = data.episodes("test")
    classifier = metalit.FewShotClassifier(learner).fit(episode.support.x[0], episode.support.y[0])
    with pytest.raises(ValueError, match=r"its settings are not known: give the folder of its run"):
        classifier.save(tmp_path / "saved")
    other = changed(protonet(), {"model.init_args.network.init_args.channels": 5})["model"]
    with pytest.raises(ValueError, match=r"model is not the settings of this learner: .*size mismatch"):
        classifier.save(tmp_path / "saved", model=other)
    assert not (tmp_path / "saved").exists()
    classifier.save(tmp_path / "saved", model=protonet()["model"])
    again = metalit.FewShotClassifier.load(tmp_path / "saved")
    queries = episode.query.x[0]
    np.testing.assert_array_equal(again.predict_proba(queries), classifier.predict_proba(queries))


def test_mistakes(run, tmp_path):
    recogniser, _ = learned(run)
    save_recogniser(recogniser, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no classifier: there is no classifier.json"):
        load_recogniser(tmp_path / "nowhere")
    settings = json.loads((tmp_path / "classifier.json").read_text())

    def refused(message, **changes):
        (tmp_path / "classifier.json").write_text(json.dumps({**settings, **changes}))
        with pytest.raises(ValueError, match=message):
            load_recogniser(tmp_path)

    refused("written by metalit 0.1.0: upgrade metalit", format=FORMAT + 1)
    refused("os:system is not a named tuple", state={"os:system": [{"value": "touch hacked"}]})
    harmful = {"class_path": "shutil.rmtree", "init_args": {"path": str(tmp_path)}}
    model = {"class_path": "metalit.algorithms.PrototypicalNetwork", "init_args": {"network": harmful}}
    refused("its settings name shutil.rmtree, which is not a class", settings={"model": model, "features": None})
    nowhere = {"class_path": "nowhere.Net", "init_args": {}}
    refused("there is no class nowhere.Net", settings={"model": nowhere, "features": None})
    backbone = {"class_path": "metalit.networks.Backbone", "init_args": {"module": "os.system", "options": {}}}
    refused("its settings name os.system, which is not a class", settings=settings["settings"] | {"features": backbone})
    (tmp_path / "classifier.json").write_text("{")
    with pytest.raises(ValueError, match=r"classifier.json is damaged"):
        load_recogniser(tmp_path)
    (tmp_path / "classifier.json").write_text(json.dumps(settings))
    whole = (tmp_path / "classifier.safetensors").read_bytes()
    (tmp_path / "classifier.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"classifier.safetensors is damaged"):
        load_recogniser(tmp_path)


def test_a_state_that_is_code_is_refused():
    with pytest.raises(ValueError, match="a function cannot be saved"):
        packed({"f": test_mistakes}, [])
    with pytest.raises(ValueError, match="is not a named tuple"):
        unpacked({"subprocess:Popen": [{"value": "ls"}]}, [])


def test_without_trust_nothing_is_imported_from_elsewhere_and_no_function_is_called(run, tmp_path, monkeypatch):
    """A path may stand where the parser takes one, without a class_path, and in text that it reads as settings."""
    (tmp_path / "beside.py").write_text("import torch\nclass Net(torch.nn.Module):\n    pass\nmade = Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    recogniser, _ = learned(run)
    save_recogniser(recogniser, tmp_path / "saved")
    text = (tmp_path / "saved" / "classifier.json").read_text()

    def refused(message, change):
        described = json.loads(text)
        change(described)
        (tmp_path / "saved" / "classifier.json").write_text(json.dumps(described))
        with pytest.raises(ValueError, match=message):
            load_recogniser(tmp_path / "saved")
        assert "beside" not in sys.modules

    elsewhere = r"which is in .*beside\.py and not in an installed package: import beside before, or use trusted=True"
    for given in ("beside.Net", {"class_path": "beside.Net"}):
        refused(elsewhere, lambda all, given=given: all["settings"]["model"]["init_args"].update(network=given))
        refused(elsewhere, lambda all, given=given: all["settings"].update(features=given))
    refused("os.getcwd, which is not a class", lambda all: all["settings"].update(features="os.getcwd"))
    refused("settings as text", lambda all: all["settings"].update(features='{"class_path": "beside.Net"}'))
    refused("beside:Net is not a named tuple", lambda all: all.update(state={"beside:Net": []}))
    refused(r"3 classes and the names \['a'\]", lambda all: all.update(names=["a"]))


def test_a_learner_in_float64_stays_one(tmp_path):
    learner = PrototypicalNetwork(MLP(4, outputs=3)).double()
    x, y = torch.rand(6, 4, dtype=torch.float64), [0, 0, 1, 1, 2, 2]
    network = {"class_path": "metalit.networks.MLP", "init_args": {"inputs": 4, "outputs": 3}}
    model = {"class_path": "metalit.algorithms.PrototypicalNetwork", "init_args": {"network": network}}
    settings = {"model": model, "features": None, "features_dtype": "float32"}
    recogniser = Recogniser.learn(TrainedModel(learner, settings=settings), x, y)
    save_recogniser(recogniser, tmp_path)
    np.testing.assert_array_equal(load_recogniser(tmp_path).probabilities(x), recogniser.probabilities(x))
