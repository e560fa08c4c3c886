"""Texts become the same token ids in every process, and what cannot be read is refused in one sentence."""

import json
import time

import numpy as np
import pytest

from metalit.data.texts import HashedWords, PretrainedTokenizer, VectorWords, Words
from metalit.data.texts.word_rule import words_of
from metalit.errors import SettingError, UserError
from miniature_texts import write_tokenizer

TEXTS = ["Don't panic: the card is lost!", "the card", "the"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't panic!", ["don't", "panic", "!"]),
        ("l\u2019été 3.5", ["l\u2019été", "3", ".", "5"]),
        ("e\u0301te\u0301", ["été"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("我想听music", ["我", "想", "听", "music"]),
        ("a [E1] B [/E1]", ["a", "[E1]", "b", "[/E1]"]),
        ("\u200b 👍", ["\u200b", "👍"]),
        (" \t\n", []),
    ],
)
def test_the_rule_of_words(text, words):
    found = list(words_of(text))
    assert [word for word, _ in found] == words
    assert all(not text[start].isspace() for _, start in found)


def test_the_vocabulary_is_that_of_the_texts():
    words = Words(size=5).fit(TEXTS)
    assert words.words == ("the", "card", "!")  # as often as the others with one, and first in the alphabet
    assert [ids.tolist() for ids in words.encode(["the Card burnt", "?", ""])] == [[2, 3, 1], [1], [1]]
    assert words.size == 5
    assert Words(min_count=3).fit(TEXTS).words == ("the",)


def test_a_vocabulary_is_restored_and_another_kind_refused():
    words = Words().fit(TEXTS)
    state = json.loads(json.dumps(words.state()))
    again = Words().restored(state)
    assert again.digest == words.digest != Words().digest
    assert np.array_equal(again.encode(TEXTS)[0], words.encode(TEXTS)[0])
    for other in (HashedWords(), Words(lowercase=False), Words(size=4)):
        with pytest.raises(UserError, match=r"data\.tokenizer"):
            other.restored(state)


def test_fitting_leaves_a_tokenizer_as_it_was():
    words = Words()
    words.fit(TEXTS)
    assert words.words == ()


def test_hashed_ids_are_the_same_in_each_process():
    # written down, because Python's own hash differs in each process
    assert HashedWords(size=1000).encode(["the card"])[0].tolist() == [736, 394]
    assert all(2 <= number < 50 for number in HashedWords(size=50).encode([" ".join(map(str, range(500)))])[0])


def test_pairs_follow_their_first_word():
    one, pair, two = HashedWords(ngrams=2).encode(["The card"])[0].tolist()
    assert [one, two] == HashedWords().encode(["the card"])[0].tolist()
    assert pair not in (one, two)
    assert HashedWords(ngrams=2).digest != HashedWords().digest


def test_pieces_follow_their_word_and_are_shared_by_its_forms():
    tokenizer = HashedWords(pieces=4)
    card, cards = (ids.tolist() for ids in tokenizer.encode(["card", "cards"]))
    assert (len(card), len(cards)) == (4, 5)  # the word, then ^car card ard$, or ^car card ards rds$
    assert card[0] == HashedWords().encode(["card"])[0][0]
    assert card[1:3] == cards[1:3]
    assert card[0] != card[2]  # the word itself is not its piece
    assert not set(card[3:]) & set(cards)
    assert [len(ids) for ids in tokenizer.encode(["an a"])] == [2]  # too short to have more than one
    assert HashedWords(ngrams=2, pieces=4).encode(["card an"])[0].size == 6  # pairs have none
    assert tokenizer.located(["a card"], 9)[0].starts.tolist() == [0, 2, 2, 2, 2]
    assert tokenizer.digest != HashedWords().digest
    with pytest.raises(SettingError):
        HashedWords(pieces=1)


@pytest.mark.parametrize("tokenizer", [Words().fit(TEXTS), HashedWords(ngrams=2)], ids=["Words", "HashedWords"])
def test_a_long_text_is_cut_and_quick(tokenizer):
    begun = time.monotonic()
    (found,) = tokenizer.located(["the card " * 11_200], 16)
    assert (len(found.ids), found.cut) == (16, True)
    assert time.monotonic() - begun < 1
    assert not tokenizer.located(["the card"], 16)[0].cut


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("transformers")
    return write_tokenizer(tmp_path_factory.mktemp("model"))


def test_a_pretrained_tokenizer_adds_the_special_tokens(folder):
    tokenizer = PretrainedTokenizer(str(folder))
    (found,) = tokenizer.located(["The card"], 16)
    names = tokenizer.tokenizer.convert_ids_to_tokens(found.ids)
    assert names == ["[CLS]", "the", "card", "[SEP]"]
    assert found.starts.tolist() == [-1, 0, 4, -1]
    (cut,) = tokenizer.located(["the card " * 10], 5)
    assert (cut.ids[0], cut.ids[-1], len(cut.ids), cut.cut) == (found.ids[0], found.ids[-1], 5, True)
    assert max(found.ids) < tokenizer.size


def test_a_pretrained_tokenizer_is_known_by_its_digest(folder, tmp_path):
    tokenizer = PretrainedTokenizer(str(folder))
    assert tokenizer.restored(tokenizer.state()) is tokenizer
    other = PretrainedTokenizer(str(write_tokenizer(tmp_path, extra=["zebra"])))
    assert other.digest != tokenizer.digest
    with pytest.raises(UserError, match="PretrainedTokenizer"):
        other.restored(tokenizer.state())


def test_the_rules_belong_to_the_digest(folder, tmp_path):
    """The same words with and without upper case are other ids, which neither a cache nor a checkpoint may mix up."""
    write_tokenizer(tmp_path)
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    made["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    own, other = PretrainedTokenizer(str(folder)), PretrainedTokenizer(str(tmp_path))
    assert own.encode(["The"])[0].tolist() != other.encode(["The"])[0].tolist()
    assert own.digest != other.digest


def test_a_length_without_room_for_a_word_is_refused(folder):
    tokenizer = PretrainedTokenizer(str(folder))
    assert len(tokenizer.encode(["the card"], 3)[0]) == 3
    for length in (1, 2):  # the class token and the separator alone
        with pytest.raises(SettingError, match=rf"data\.max_length is {length}, expected at least 3"):
            tokenizer.encode(["the card"], length)


def test_a_tokenizer_with_code_of_its_own_is_refused(tmp_path):
    pytest.importorskip("transformers")
    folder = write_tokenizer(tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenization_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(SettingError, match="code") as caught:
        PretrainedTokenizer(str(folder)).size  # noqa: B018
    assert (caught.value.name, caught.value.value) == ("name_or_path", str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("files", [[], ["config.json"]], ids=["empty", "without tokenizer"])
def test_a_folder_without_a_tokenizer_is_refused(files, tmp_path):
    pytest.importorskip("transformers")
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(SettingError, match=r"tokenizer\.json"):
        PretrainedTokenizer(str(tmp_path)).size  # noqa: B018


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(SettingError, match="no such folder"):
        PretrainedTokenizer(str(tmp_path / "gone")).size  # noqa: B018


def test_words_of_a_file_of_vectors(tmp_path):
    (tmp_path / "vectors.txt").write_text("The 1 0\ncard 0 1\nRome 1 1\n")
    tokenizer = VectorWords(str(tmp_path / "vectors.txt"))
    assert [ids.tolist() for ids in tokenizer.encode(["The Card of Rome", "the rome"])] == [[2, 3, 1, 4], [1, 1]]
    assert tokenizer.size == 5
    assert tokenizer.restored(tokenizer.state()) is tokenizer
