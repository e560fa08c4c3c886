"""The words of a file of word vectors."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from metalit.data.texts.tokenizer import FIRST, UNKNOWN, Encoded, Tokenizer, encoded
from metalit.data.texts.word_rule import VERSION, words_of
from metalit.errors import settings_of
from metalit.networks.texts.tokenizer_files import words_digest
from metalit.networks.texts.word_vectors import read_word_vectors


class VectorWords(Tokenizer):
    """Words by their number in a file of word vectors, for ``networks.StaticVectors`` of the same file.

    Id 0 is padding, 1 a word that the file does not have, 2 its first word, and so on. A word is looked up as it is,
    then in lower case.

    Args:
        path: the file; see ``networks.StaticVectors`` for its forms.
        words: the words of the file, in place of it: how a saved classifier keeps them.
    """

    def __init__(self, path: str, words: Sequence[str] | None = None) -> None:
        self.path, self.given = path, words

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings only, so that other processes read the file themselves."""
        return {"path": self.path, "given": self.given}

    @property
    def words(self) -> list[str]:
        """The words in the order of their ids."""
        return list(self._ids)

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self._ids) + FIRST

    @property
    def digest(self) -> str:
        """That of the words in their order, the same as ``StaticVectors.tokenizer_digest``."""
        return words_digest(self.words)

    def located(self, texts: Sequence[str], max_length: int) -> list[Encoded]:
        """Return each text as at most ``max_length`` tokens, with their places in the text."""
        ids, found = self._ids, []
        for text in texts:
            pairs = list(words_of(text, lowercase=False))
            numbers = [ids.get(word, ids.get(word.lower(), UNKNOWN)) for word, _ in pairs]
            found.append(encoded(numbers, [start for _, start in pairs], max_length))
        return found

    def identity(self) -> dict[str, Any]:
        """Return the rule and the digest of the words."""
        return {"rule": VERSION, "digest": self.digest}

    def setting(self) -> dict[str, Any]:
        """Return what to state with a result."""
        return {**super().setting(), "tokenizer_of": self.path}

    @cached_property
    def _ids(self) -> dict[str, int]:
        with settings_of(type(self)):
            words = read_word_vectors(self.path).words if self.given is None else self.given
        return {word: number for number, word in enumerate(words, start=FIRST)}
