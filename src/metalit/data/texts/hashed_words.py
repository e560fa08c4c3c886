"""Words, pairs of words and pieces of words hashed into a fixed number of ids, with nothing to fit."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

from metalit.data.texts.tokenizer import FIRST, Encoded, Tokenizer, encoded
from metalit.data.texts.word_rule import VERSION, words_of
from metalit.errors import at_least, check


class HashedWords(Tokenizer):
    """Words, or words and pairs of neighbours, hashed into ids: no vocabulary, the same ids in every training.

    Two words may share an id: with n words in use, a word is alone with probability about exp(-n / size). The hash is
    BLAKE2, not Python's, which differs in each process. Ids 0 and 1 are left to padding and to texts without a word.

    Args:
        size: number of ids.
        ngrams: 1 for words, 2 for words each followed by the pair that it makes with the next one.
        pieces: length of pieces, in characters, that follow each word: with 4, ``card`` has ``^car``, ``card`` and
            ``ard$``, so that ``cards`` is not another word altogether (Bojanowski et al. 2017). None for none. They
            count for ``max_length``; a word has about as many as it has letters.
        lowercase: whether upper and lower case are the same.

    Raises:
        SettingError: a number is out of range.
    """

    def __init__(
        self, size: int = 32_768, ngrams: Literal[1, 2] = 1, lowercase: bool = True, pieces: int | None = None
    ) -> None:
        at_least(FIRST + 1, size=size)
        at_least(2, pieces=pieces)
        check("ngrams", ngrams, ngrams in (1, 2), "1 or 2")
        self._size, self.ngrams, self.lowercase, self.pieces = size, ngrams, lowercase, pieces

    @property
    def size(self) -> int:
        """Number of ids."""
        return self._size

    def located(self, texts: Sequence[str], max_length: int) -> list[Encoded]:
        """Return each text as at most ``max_length`` tokens, with their places in the text."""
        found = []
        for text in texts:
            words = list(words_of(text, self.lowercase))
            pairs = words if self.ngrams == 1 else list(_with_pairs(words))
            if self.pieces is not None:
                pairs = list(_with_pieces(pairs, self.pieces))
            ids = [FIRST + _hash(word) % (self.size - FIRST) for word, _ in pairs]
            found.append(encoded(ids, [start for _, start in pairs], max_length))
        return found

    def identity(self) -> dict[str, Any]:
        """Return the settings."""
        pieces = {} if self.pieces is None else {"pieces": self.pieces}
        return {"rule": VERSION, "size": self.size, "ngrams": self.ngrams, "lowercase": self.lowercase, **pieces}

    def setting(self) -> dict[str, Any]:
        """Return what to state with a result."""
        return {**super().setting(), "ngrams": self.ngrams, "lowercase": self.lowercase, "pieces": self.pieces}


def _with_pairs(words: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    # a pair right after its first word, so that a text that is cut keeps both for its beginning
    for (word, start), (following, _) in pairwise(words):
        yield word, start
        yield f"{word} {following}", start
    yield from words[-1:]


def _with_pieces(words: Iterable[tuple[str, int]], length: int) -> Iterator[tuple[str, int]]:
    for word, start in words:
        yield word, start
        edged = f"^{word}$"
        if " " in word or len(edged) <= length:  # a pair; or a word too short for more than one piece
            continue
        # a mark keeps the piece of a word from being taken for a word
        yield from ((f"~{edged[at : at + length]}", start) for at in range(len(edged) - length + 1))


@lru_cache(maxsize=1 << 17)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest())
