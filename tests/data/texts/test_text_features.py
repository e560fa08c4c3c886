"""Frozen features of texts: computed once, found again for the same texts, tokenizer and weights alone."""

import logging
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from metalit.data.texts import HashedWords, PretrainedTokenizer, TextClasses
from metalit.errors import SettingError, UserError
from metalit.networks import BagOfWords, PretrainedText, TextTransformer
from miniature_texts import rows_of_classes, write_csv, write_tokenizer


def network(seed=0, **settings):
    torch.manual_seed(seed)
    return TextTransformer(**{"vocabulary": 200, "width": 12, "heads": 2, "layers": 1, **settings}).requires_grad_(
        False
    )


def texts(root, features=None, tokenizer=None, **settings):
    sizes = {"ways": 2, "shots": 1, "queries": 2, "val_episodes": 2, "test_episodes": 4}
    return TextClasses(
        root=str(root),
        features=network() if features is None else features,
        tokenizer=HashedWords(200) if tokenizer is None else tokenizer,
        **{**sizes, **settings},
    )


@pytest.fixture
def root(tmp_path):
    write_csv(tmp_path / "all.csv", rows_of_classes(10, 6))
    return tmp_path


def logged(caplog, *args, **settings):
    caplog.clear()
    logging.getLogger("lightning.pytorch").propagate = True
    with caplog.at_level(logging.INFO):
        texts(*args, **settings).episodes("test")
    assert "texts x 12 float" in caplog.text
    return "hit" if "cache hit" in caplog.text else "miss" if "cache miss" in caplog.text else None


def test_they_are_the_embeddings_of_the_texts(root):
    data, plain = texts(root), texts(root)
    plain.features = None
    found, tokens = data.episodes("test", 3, 2), plain.episodes("test", 3, 2)
    for task in range(2):
        alone = [type(tokens.query.x)(*(leaf[task, [one]] for leaf in tokens.query.x)) for one in range(4)]
        expected = torch.cat([network().eval()(each) for each in alone])
        torch.testing.assert_close(found.query.x[task], expected)
    store = data.stores["test"]
    entries = [entry.text for entry in data.listing().entries if entry.label == store.class_names[0]]
    torch.testing.assert_close(data.embed(data.example_form().items(entries)), store.items[: len(entries)])
    assert store.example_names[0].startswith("all.csv:")


def test_the_cache_goes_by_weights_tokenizer_texts_and_dtype(root, caplog):
    assert logged(caplog, root) == "miss"
    assert logged(caplog, root) == "hit"
    assert logged(caplog, root, seed=3) == "hit"  # other episodes of the same texts
    assert logged(caplog, root, network(seed=1)) == "miss"
    assert logged(caplog, root, tokenizer=HashedWords(199)) == "miss"
    assert logged(caplog, root, tokenizer=HashedWords(200, lowercase=False)) == "hit"  # all are lower case: same ids
    assert logged(caplog, root, max_length=4) == "miss"
    assert logged(caplog, root, features_dtype="float16") == "miss"
    text = (root / "all.csv").read_text()
    names = texts(root).class_splits()["test"]
    (root / "all.csv").write_text(text.replace(f" {names[0]},", f" please {names[0]},"))
    assert (root / "all.csv").read_text() != text
    assert logged(caplog, root) == "miss"
    (root / "all.csv").write_text(text)
    assert logged(caplog, root) == "hit"


def test_a_data_set_that_is_one_file_has_its_cache_beside_it(root, caplog):
    assert logged(caplog, root / "all.csv") == "miss"
    assert logged(caplog, root / "all.csv") == "hit"
    assert list((root / "metalit-cache").glob("features-test-*.npz"))


def language_model(folder, seed=0):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    write_tokenizer(folder)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def test_only_the_models_own_tokenizer_is_taken(root, tmp_path, caplog):
    name = language_model(tmp_path / "model")
    assert logged(caplog, root, PretrainedText(name), PretrainedTokenizer(name)) == "miss"
    shutil.copytree(name, tmp_path / "moved")  # the same model elsewhere
    moved = str(tmp_path / "moved")
    assert texts(root, PretrainedText(moved), PretrainedTokenizer(name)).episodes("test").query.x.shape == (1, 4, 12)
    other = str(write_tokenizer(tmp_path / "other", extra=["class"]))
    for tokenizer in (HashedWords(40), PretrainedTokenizer(other)):
        with pytest.raises(SettingError, match=r"data\.tokenizer is .*give data\.tokenizer: \{class_path: metalit"):
            texts(root, PretrainedText(name), tokenizer).episodes("test")
    with pytest.raises(SettingError, match=r"vocabulary is 150, expected at least 200, the number of ids"):
        texts(root, network(vocabulary=150)).episodes("test")


class Noisy(nn.Module):
    """An encoder that draws random numbers."""

    def forward(self, x):
        return torch.rand(len(x.ids), 3)


class OfPictures(nn.Module):
    """An encoder of images."""

    def forward(self, x):
        return x.flatten(1)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (lambda: network().requires_grad_(True), r"data\.features is TextTransformer, expected a frozen network"),
        (Noisy, "Noisy gives twice the same texts different embeddings"),
        (OfPictures, r"OfPictures does not take texts \[4, 8\]"),
        (lambda: BagOfWords(200), "weights of words"),
    ],
)
def test_what_cannot_be_computed_once_is_refused(features, message, root):
    with pytest.raises(UserError, match=message):
        texts(root, features()).episodes("test")
    assert not list(root.glob("metalit-cache/features-*.npz"))


def test_a_checkpoint_of_other_features_is_refused(root):
    state = texts(root).state_dict()
    texts(root).check_features(state)
    with pytest.raises(UserError, match=r"data\.features: the network differs from that of the training"):
        texts(root, network(seed=1)).check_features(state)
    assert np.array_equal(sorted(state), sorted(texts(root).state_dict()))


def test_a_mistake_names_its_option_once(root, tmp_path):
    pytest.importorskip("transformers")
    write_tokenizer(tmp_path / "model")
    with pytest.raises(SettingError) as error:
        texts(root, tokenizer=PretrainedTokenizer(str(tmp_path / "model")), max_length=2).episodes("test")
    assert error.value.name == "data.max_length"  # and not data.data.max_length
