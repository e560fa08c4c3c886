"""A model of texts put to use: the test's predictions, one text as among others, and saved without its data."""

import csv
import json
import pickle
import shutil

import numpy as np
import pytest
import torch

import metalit
from metalit import FewShotClassifier, PrototypicalNetwork
from metalit.data.texts import HashedWords, PretrainedTokenizer, TextForm, VectorWords, Words
from metalit.errors import SettingError, UserError
from metalit.inference import Recogniser, TrainedModel, load_recogniser, save_recogniser
from metalit.inference.exported import export
from metalit.inference.saved_forms import form_as_json, form_from_json
from metalit.loading import make_parts
from metalit.main import main
from metalit.networks import BagOfWords, TextTransformer
from miniature_texts import rows_of_intents, write_tokenizer

OWN = ["renew card", "renew loan", "order passport"]  # of known and of unknown words
QUESTIONS = ["renew card please", "i must order another passport before the long journey to my parents in June", "loan"]


def sentences(texts=12):
    rows = rows_of_intents(OWN, texts)
    return [row["text"] for row in rows], [row["label"] for row in rows]


def test_a_run_predicts_as_its_test_did(text_run):
    """From the strings of the test's episodes, to the same predictions."""
    pytest.importorskip("sklearn")
    main(["test", "--config", str(text_run / "config.yaml"), "--run_dir", str(text_run), "--ckpt_path", "best"])
    with (text_run / "episodes.csv").open() as file:
        accuracies = [float(row["accuracy"]) for row in csv.DictReader(file)]
    learner, data = metalit.load(text_run)
    classifier = FewShotClassifier(str(text_run))
    by_name = {entry.name: entry for entry in data.listing().entries}
    for number in range(4):
        episode, names = data.episodes("test", number), data.names("test", number)
        support, query = ([by_name[name] for name in of] for of in (names.support, names.query))
        classifier.fit([entry.text for entry in support], [entry.label for entry in support])
        texts = [entry.text for entry in query]
        right = classifier.predict(texts) == [entry.label for entry in query]
        assert right.mean() == pytest.approx(accuracies[number])
        expected = learner.evaluate(episode).predictions[0, -1].double().softmax(-1)
        order = [names.classes.index(name) for name in classifier.classes_]
        np.testing.assert_allclose(classifier.predict_proba(texts), expected[:, order].numpy(), atol=1e-6)


def test_one_text_is_as_among_others_of_any_length(text_run):
    recogniser = Recogniser.learn(TrainedModel.of_run(text_run), *sentences())
    many = [*QUESTIONS, *(" ".join(["card"] * length) for length in range(1, 70))]
    among = recogniser.probabilities(many)
    for number in (0, 1, 2, 40, 71):
        np.testing.assert_allclose(recogniser.probabilities([many[number]])[0], among[number], atol=1e-6)
    mixed = np.random.default_rng(0).permutation(len(many))
    np.testing.assert_allclose(recogniser.probabilities([many[each] for each in mixed]), among[mixed], atol=1e-6)


@pytest.mark.parametrize("make", [list, np.array, lambda texts: np.array(texts, dtype=object)[:, None]])
def test_every_form_of_strings(text_run, make):
    texts, labels = sentences()
    expected = Recogniser.learn(TrainedModel.of_run(text_run), texts, labels).probabilities(QUESTIONS)
    found = FewShotClassifier(text_run).fit(make(texts), labels).predict_proba(make(QUESTIONS))
    np.testing.assert_array_equal(found, expected)


def test_cross_validation_and_pipelines(text_run):
    selection = pytest.importorskip("sklearn.model_selection")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    texts, labels = sentences()
    for x in (texts, np.array(texts)):
        assert selection.cross_val_score(FewShotClassifier(text_run), x, labels, cv=3).mean() > 0.6  # chance 0.33
    upper = FunctionTransformer(lambda x: [each.upper() for each in x])
    piped = make_pipeline(upper, FewShotClassifier(text_run)).fit(texts, labels)
    expected = FewShotClassifier(text_run).fit(texts, labels).predict_proba(QUESTIONS)
    np.testing.assert_array_equal(piped.predict_proba(QUESTIONS), expected)  # the tokenizer ignores case


def test_saved_and_opened_without_the_data(text_run, tmp_path):
    """Also pickled, as joblib does, and fitted again."""
    texts, labels = sentences()
    shutil.copytree(text_run, tmp_path / "run")
    classifier = FewShotClassifier(tmp_path / "run").fit(texts, labels)
    expected = classifier.predict_proba(QUESTIONS)
    classifier.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["classifier.json", "classifier.safetensors"]
    loaded = FewShotClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(QUESTIONS), expected)
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again.fit(texts, labels).predict_proba(QUESTIONS), expected)
    described = json.loads((tmp_path / "saved" / "classifier.json").read_text())
    assert described["form"]["kind"] == "text"
    assert not any(text in json.dumps(described) for text in texts)
    described["form"]["tokenizer"]["state"]["words"].reverse()  # other ids for the same words
    (tmp_path / "saved" / "classifier.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"saved: data\.tokenizer is Words"):
        FewShotClassifier.load(tmp_path / "saved")


def test_a_saved_classifier_reads_no_files_of_its_own_choice(text_run, tmp_path):
    """It may come from anywhere, and a message would show what is in them."""
    (tmp_path / "secret.txt").write_text("password of mine")
    path = str(tmp_path / "secret.txt")
    FewShotClassifier(text_run).fit(*sentences()).save(tmp_path / "saved")
    file = tmp_path / "saved" / "classifier.json"
    whole = file.read_text()

    def refused(change, message):
        described = json.loads(whole)
        change(described)
        file.write_text(json.dumps(described))
        with pytest.raises(ValueError, match=message) as error:
            FewShotClassifier.load(tmp_path / "saved")
        assert "password" not in str(error.value)

    words = {"settings": {"path": path}, "state": {"kind": "VectorWords", "digest": ""}}
    refused(lambda described: described["form"].update(tokenizer=words), "neither files nor words")
    network = {"class_path": "metalit.networks.StaticVectors", "init_args": {"path": path}}
    refused(lambda described: described["settings"]["model"]["init_args"].update(network=network), "no architecture of")
    refused(lambda described: described["form"].update(max_length=2.5), r"max_length 2\.5")


def language_model(folder):
    """Return the name of a tiny BERT at random, with its tokenizer."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    transformers.BertModel(config).save_pretrained(write_tokenizer(folder))
    return str(folder)


def of_class(name, **options):
    return {"class_path": f"metalit.networks.{name}", "init_args": options}


def learned(network, tokenizer):
    """What prototypes of a network of these settings have learned from four texts."""
    settings = {"class_path": "metalit.algorithms.PrototypicalNetwork", "init_args": {"network": network}}
    learner, _ = make_parts({"model": settings, "features": None}, None)
    form = TextForm(tokenizer, max_length=20)
    texts, labels = ["the card is lost", "lost my card", "a red loan", "how much money"], [0, 0, 1, 1]
    return Recogniser.learn(TrainedModel(learner, form), texts, labels).with_settings(settings)


def test_a_language_model_is_saved_with_architecture_and_tokenizer(tmp_path):
    """The folder it was read from is gone when the classifier is opened."""
    name = language_model(tmp_path / "model")
    network = of_class("LoRA", layers=["*.query"], network=of_class("PretrainedText", name_or_path=name))
    recogniser = learned(network, PretrainedTokenizer(name))
    expected = recogniser.probabilities(QUESTIONS)
    save_recogniser(recogniser, tmp_path / "saved")
    shutil.rmtree(name)
    opened = load_recogniser(tmp_path / "saved")
    np.testing.assert_array_equal(opened.probabilities(QUESTIONS), expected)
    assert opened.predictor.learner.setting() == recogniser.predictor.learner.setting()
    save_recogniser(opened, tmp_path / "again")
    np.testing.assert_array_equal(load_recogniser(tmp_path / "again").probabilities(QUESTIONS), expected)
    described = json.loads((tmp_path / "saved" / "classifier.json").read_text())
    options = described["settings"]["model"]["init_args"]["network"]["init_args"]["network"]["init_args"]
    code = {"auto_map": {"AutoModel": "own.Net"}, "attn_implementation": "somebody/kernels"}
    options["architecture"]["config"] |= code  # neither is followed
    (tmp_path / "saved" / "classifier.json").write_text(json.dumps(described))
    np.testing.assert_array_equal(load_recogniser(tmp_path / "saved").probabilities(QUESTIONS), expected)
    described["form"]["tokenizer"]["settings"]["files"] = None  # would be read from the folder, or from the Hub
    (tmp_path / "saved" / "classifier.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="its tokenizer has neither files nor words"):
        load_recogniser(tmp_path / "saved")


def test_word_vectors_are_saved_without_their_file(tmp_path):
    words = vector_words(tmp_path)
    recogniser = learned(of_class("StaticVectors", path=words.path), words)
    expected = recogniser.probabilities(QUESTIONS)
    save_recogniser(recogniser, tmp_path / "saved")
    (tmp_path / "vectors.txt").unlink()
    np.testing.assert_array_equal(load_recogniser(tmp_path / "saved").probabilities(QUESTIONS), expected)


def vector_words(folder):
    (folder / "vectors.txt").write_text("card 1 0\nloan 0 1\n")
    return VectorWords(str(folder / "vectors.txt"))


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: Words(size=30).fit(["renew my card", "my loan"]),
        lambda folder: HashedWords(50, ngrams=2, lowercase=False),
        vector_words,
    ],
)
def test_every_tokenizer_is_kept_as_json(make, tmp_path):
    form = TextForm(make(tmp_path), max_length=9)
    kept = json.dumps(form_as_json(form))
    for file in tmp_path.iterdir():
        file.unlink()
    again = form_from_json(json.loads(kept))
    assert torch.equal(again.items(QUESTIONS).ids, form.items(QUESTIONS).ids)
    assert again.tokenizer.digest == form.tokenizer.digest


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("renew card", "the examples are one str, 'renew card', expected several: put it into a list"),
        ([], r"the examples are \[\], expected a list of texts"),
        ([3, 4], r"the examples are \[3, 4\], expected a list of texts"),
        ([None], r"the examples are \[None\], expected a list of texts"),
        (None, "the examples are None, expected a list of texts"),
    ],
)
def test_what_is_no_list_of_strings_is_refused(text_run, x, message):
    pytest.importorskip("sklearn")
    classifier = FewShotClassifier(text_run).fit(*sentences())
    with pytest.raises(UserError, match=message):
        classifier.predict(x)
    with pytest.raises(UserError, match=message):
        classifier.fit(x, ["a"])


class Letters(HashedWords):
    """A tokenizer of the user's."""


def test_mistakes(text_run, tmp_path):
    texts, labels = sentences()
    model = TrainedModel.of_run(text_run)
    with pytest.raises(ValueError, match="text 2: its text is empty"):
        Recogniser.learn(model, ["card", " "], [0, 1])
    with pytest.raises(ValueError, match=r"text 2: its text is 3\.5, expected words"):
        Recogniser.learn(model, ["card", "loan"], [0, 1]).probabilities(["card", 3.5])
    with pytest.raises(ValueError, match="the texts are 'my card', expected a list"):
        Recogniser.learn(model, ["card", "loan"], [0, 1]).probabilities("my card")
    with pytest.raises(ValueError, match=r"an array \[2, 2\], expected \[n\] or \[n, 1\]"):
        Recogniser.learn(model, np.array([["a", "b"], ["c", "d"]]), [0, 1])
    learner = PrototypicalNetwork(TextTransformer(vocabulary=50, width=8))
    with pytest.raises(ValueError, match="not known how the model takes them: give form"):
        FewShotClassifier(learner).fit(texts, labels)
    with pytest.raises(SettingError, match="vocabulary is 50, expected at least 60"):
        FewShotClassifier(learner, form=TextForm(HashedWords(60))).fit(texts, labels)
    with pytest.raises(ValueError, match="weights of words"):
        FewShotClassifier(PrototypicalNetwork(BagOfWords(60)), form=TextForm(HashedWords(60))).fit(texts, labels)
    own = FewShotClassifier(PrototypicalNetwork(TextTransformer(vocabulary=60, width=8)), form=TextForm(Letters(60)))
    settings = {"class_path": "metalit.algorithms.PrototypicalNetwork", "init_args": {"network": {
        "class_path": "metalit.networks.TextTransformer", "init_args": {"vocabulary": 60, "width": 8}}}}  # fmt: skip
    with pytest.raises(ValueError, match="a Letters as tokenizer cannot be saved, only one with Words, HashedWords"):
        own.fit(texts, labels).save(tmp_path / "saved", model=settings)
    assert not (tmp_path / "saved").exists()
    with pytest.raises(ValueError, match="a model of texts cannot be exported"):
        export(Recogniser.learn(model, texts, labels), tmp_path / "model.pt2")
