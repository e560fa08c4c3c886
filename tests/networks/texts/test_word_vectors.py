"""Files of word vectors in the forms that users have, and damaged ones."""

import gzip

import numpy as np
import pytest
import torch

from metalit.data.texts import PretrainedTokenizer, TextForm, VectorWords
from metalit.errors import SettingError, UserError
from metalit.networks import StaticVectors
from metalit.networks.texts.word_vectors import read_word_vectors
from miniature_texts import write_tokenizer

WORDS, VECTORS = ["the", "new york", "naïve"], np.array([[1, -2.5], [3e-2, 4], [0, 5]], dtype=np.float32)
GLOVE = "the 1 -2.5\nnew york 3e-2 4\nnaïve 0 5\n"


def write(folder, form):
    path = folder / f"vectors.{form}"
    if form == "npz":
        np.savez(path, words=np.array(WORDS), vectors=VECTORS)
    elif form == "npy":
        np.save(path, VECTORS)
        path.with_suffix(".txt").write_text("\n".join(WORDS), encoding="utf-8")
    elif form == "gz":
        path.write_bytes(gzip.compress(GLOVE.encode()))
    else:
        text = f"3 2\n{GLOVE}" if form == "vec" else f"\ufeff{GLOVE}" if form == "bom" else GLOVE.replace("\n", " \r\n")
        path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("form", ["txt", "vec", "bom", "gz", "npz", "npy"])
def test_every_form_has_the_same_words_and_vectors(form, tmp_path):
    words, vectors = read_word_vectors(write(tmp_path, form))
    assert words == WORDS
    np.testing.assert_array_equal(vectors, VECTORS)


def test_the_tokenizer_of_the_same_file_fits(tmp_path):
    path = str(write(tmp_path, "txt"))
    network, tokenizer = StaticVectors(path), VectorWords(path)
    assert (network.tokenizer_digest, network.vocabulary) == (tokenizer.digest, tokenizer.size)
    ids = torch.from_numpy(tokenizer.encode(["The naïve"])[0]).long()
    torch.testing.assert_close(network.vectors[ids], torch.from_numpy(VECTORS[[0, 2]]))
    assert "VectorWords" in network.tokenizer
    assert path in network.tokenizer


def test_of_a_word_that_is_there_twice_the_first_counts(tmp_path):
    (tmp_path / "v.txt").write_text("a 1\nb 2\na 3\nc 4\n")
    words, vectors = read_word_vectors(tmp_path / "v.txt")
    assert (words, vectors.ravel().tolist()) == (["a", "b", "c"], [1, 2, 4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1 2\nb 3\n", "line 2: expected a word and 2 numbers"),
        (b"a 1 2\nb x 3\n", "line 2: expected a word and 2 numbers"),
        (b"2 3\na 1 2 3\nb 1 2\n", "line 3: expected a word and 3 numbers"),
        (b"a 1\n\xe9t\xe9 2\n", "line 2 is not UTF-8"),
        (b"a 1\nb nan\n", "vector of 'b'"),
        (b"", "0 words"),
        (b"\n\n", "0 words"),
    ],
)
def test_damaged_text_names_the_line(content, message, tmp_path):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_word_vectors(tmp_path / "v.txt")


def test_python_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "v.npz", words=np.array(WORDS, dtype=object), vectors=VECTORS)
    with pytest.raises(UserError, match="Python objects"):
        read_word_vectors(tmp_path / "v.npz")
    np.save(tmp_path / "w.npy", np.array([[1], "x"], dtype=object))
    (tmp_path / "w.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match="Python objects"):
        read_word_vectors(tmp_path / "w.npy")


def test_files_of_another_form(tmp_path):
    np.savez(tmp_path / "v.npz", words=np.array(WORDS))
    with pytest.raises(UserError, match="expected words and vectors"):
        read_word_vectors(tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", words=np.array(WORDS), vectors=VECTORS[:2])
    with pytest.raises(UserError, match="do not fit together"):
        read_word_vectors(tmp_path / "v.npz")
    np.save(tmp_path / "v.npy", VECTORS)
    with pytest.raises(UserError, match=r"put its words into .*v\.txt"):
        read_word_vectors(tmp_path / "v.npy")
    (tmp_path / "v.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="cannot be read"):
        read_word_vectors(tmp_path / "v.gz")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(GLOVE.encode() * 50)[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        read_word_vectors(tmp_path / "cut.gz")
    with pytest.raises(SettingError):
        read_word_vectors(tmp_path / "missing.txt")


@pytest.mark.parametrize("shared", [False, True])
def test_a_folder_of_model2vec(shared, tmp_path):
    pytest.importorskip("transformers", reason="needs metalit[text], which is not installed")
    save_file = pytest.importorskip("safetensors.torch").save_file
    tokenizer = PretrainedTokenizer(str(write_tokenizer(tmp_path)))
    embeddings = torch.randint(-127, 128, (5 if shared else tokenizer.size, 4), dtype=torch.int8)
    mapping, weights = torch.arange(tokenizer.size) % 5, torch.rand(tokenizer.size)
    save_file(
        {"embeddings": embeddings, **({"mapping": mapping, "weights": weights} if shared else {})},
        tmp_path / "model.safetensors",
    )
    network = StaticVectors(str(tmp_path))
    rows = embeddings.float() / 127
    table = rows[mapping] * weights.unsqueeze(-1) if shared else rows
    x = TextForm(tokenizer).items(["lost card", "my balance please zebra"])
    known = x.mask & (x.ids != 1)  # [UNK] has no meaning
    expected = torch.stack([table[ids[of]].mean(0) for ids, of in zip(x.ids, known, strict=True)])
    torch.testing.assert_close(network(x), expected)
    assert network.tokenizer_digest == tokenizer.digest
    save_file({"vectors": rows}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="expected embeddings"):
        StaticVectors(str(tmp_path))
    save_file({"embeddings": rows[:3].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="3 vectors"):
        StaticVectors(str(tmp_path))
