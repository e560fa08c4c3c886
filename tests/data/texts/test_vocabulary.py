"""The vocabulary belongs to the training: it is in the checkpoint, and other data are read by it."""

import lightning as L
import pytest
import torch

import metalit
from commands import write_yaml
from metalit.algorithms import PrototypicalNetwork
from metalit.data import CLINC150, FewJoint, TextClasses
from metalit.data.features import FrozenFeatures
from metalit.data.texts import HashedWords, Words
from metalit.errors import SettingError, UserError
from metalit.main import main
from metalit.networks import Frozen, TextTransformer
from metalit.networks.texts.tokenizer_files import TOKENIZER
from miniature_texts import rows_of_classes, write_clinc150, write_csv, write_few_joint

SMALL = {
    "ways": 2, "shots": 1, "queries": 2, "tasks_per_batch": 2, "episodes_per_epoch": 2, "val_episodes": 2,
    "test_episodes": 2,
}  # fmt: skip
QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def training_data(folder):
    return CLINC150(root=str(write_clinc150(folder / "clinc")), splits="seed", tokenizer=Words(size=50), **SMALL)


def other_data(folder, words="zebra", **settings):
    folder.mkdir(exist_ok=True)
    write_csv(folder / "other.csv", rows_of_classes(6, 4, words))
    settings = {"tokenizer": Words(size=50), "splits": "test", **SMALL, **settings}
    return TextClasses(root=str(folder), **settings)


def learner():
    return PrototypicalNetwork(network=TextTransformer(vocabulary=50, width=8, layers=1, heads=1))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trainer = L.Trainer(max_steps=1, inference_mode=False, enable_checkpointing=False, **QUIET)
    data = training_data(folder)
    trainer.fit(learner(), data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt", data.fitted_tokenizer()


def after_test(checkpoint, data):
    trainer = L.Trainer(inference_mode=False, **QUIET)
    trainer.test(learner(), data, ckpt_path=checkpoint, verbose=False, weights_only=False)
    return data


def test_a_test_on_other_data_uses_the_vocabulary_of_the_training(checkpoint, tmp_path):
    path, vocabulary = checkpoint
    data = after_test(path, other_data(tmp_path))  # without the checkpoint, data without training classes have none
    assert data.fitted_tokenizer().digest == vocabulary.digest
    assert "zebra" not in data.fitted_tokenizer().words
    names, ids = data.names("test", 0), data.episodes("test", 0).support.x.ids[0, 0]
    (expected,) = vocabulary.encode([names.support[0].partition(": ")[2]])
    assert ids[: len(expected)].tolist() == expected.tolist()


def test_episodes_that_were_looked_at_before_are_read_again(checkpoint, tmp_path):
    path, vocabulary = checkpoint
    data = other_data(tmp_path, splits="seed", shares=[0.5, 0.0, 0.5])
    before = data.episodes("test", 0).support.x.ids
    assert data.fitted_tokenizer().digest != vocabulary.digest
    after = after_test(path, data).episodes("test", 0).support.x.ids
    assert not torch.equal(before, after)


def test_episodes_from_files_take_it_over_too(checkpoint, tmp_path):
    path, vocabulary = checkpoint
    data = FewJoint(root=str(write_few_joint(tmp_path)), tokenizer=Words(size=50))
    data.episodes("test", 0)
    assert after_test(path, data).fitted_tokenizer().digest == vocabulary.digest


def test_another_tokenizer_than_that_of_the_training_is_refused(checkpoint, tmp_path):
    with pytest.raises(UserError, match=r"data\.tokenizer is HashedWords.*trained with Words"):
        after_test(checkpoint[0], other_data(tmp_path, tokenizer=HashedWords(size=50)))


def test_resuming_and_loading_a_run_keep_the_vocabulary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = {"class_path": "metalit.networks.TextTransformer",
               "init_args": {"vocabulary": 50, "width": 8, "layers": 1, "heads": 1}}  # fmt: skip
    tokenizer = {"class_path": "metalit.data.texts.Words", "init_args": {"size": 50}}
    write_clinc150(tmp_path / "clinc")
    config = {
        "model": {"class_path": "metalit.algorithms.PrototypicalNetwork", "init_args": {"network": network}},
        "data": {
            "class_path": "metalit.data.CLINC150",
            "init_args": {"root": "clinc", "splits": "seed", "tokenizer": tokenizer, **SMALL},
        },
        "trainer": {"max_steps": 1, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1},
        "checkpoint": {"monitor": "val/accuracy", "mode": "max"},
    }
    path = write_yaml(tmp_path / "fit.yaml", config)
    main(["fit", "--config", path, "--run_dir", "run"])
    state = torch.load("run/checkpoints/last.ckpt", weights_only=False)["CLINC150"][TOKENIZER]
    write_clinc150(tmp_path / "clinc", texts=5)  # the files have changed since
    main(["fit", "--config", path, "--run_dir", "run", "--ckpt_path", "last", "--trainer.max_steps", "2"])
    again = torch.load("run/checkpoints/last.ckpt", weights_only=False)["CLINC150"][TOKENIZER]
    assert again == state
    loaded = metalit.load("run")
    (tmp_path / "clinc" / "data_full.json").unlink()  # a loaded run needs no data to take texts
    form = loaded.data.example_form()
    assert form.tokenizer.digest == state["digest"]
    assert form.items(["the card", "what is my balance"]).ids.shape == (2, 8)


def test_frozen_features_of_words_ask_for_the_vocabulary_of_their_run(checkpoint, tmp_path):
    """A vocabulary fitted to other classes would give every word the embedding of another one, in silence."""
    path, vocabulary = checkpoint
    features = Frozen(TextTransformer(vocabulary=50, width=8, layers=1, heads=1), str(path))
    own = training_data(tmp_path)
    own.features = FrozenFeatures(features)
    assert own.episodes("test").query.x.shape[-1] == 8
    assert own.fitted_tokenizer().digest == vocabulary.digest
    other = other_data(tmp_path / "other", splits="seed", shares=(0.34, 0.33, 0.33), features=features)
    with pytest.raises(SettingError, match=r"that of .*last\.ckpt, Words with the vocabulary") as error:
        other.episodes("test")
    assert error.value.name == "data.tokenizer"
