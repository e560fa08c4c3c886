"""Words as tokens, numbered by how often the training texts have them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Self

from metalit.data.texts.tokenizer import FIRST, UNKNOWN, Encoded, Tokenizer, encoded, other_tokenizer
from metalit.data.texts.word_rule import VERSION, words_of
from metalit.errors import at_least


class Words(Tokenizer):
    """Words, lower-cased, with the most frequent words of the training classes as vocabulary.

    Id 0 is padding, 1 an unknown word, 2 the most frequent word, and so on; words that are equally frequent are in
    alphabetical order. ``word_rule.words_of`` says what a word is.

    Args:
        size: at most how many ids there are.
        min_count: how often the training texts must have a word.
        lowercase: whether upper and lower case are the same.

    Raises:
        SettingError: a number is out of range.
    """

    needs_fit = True

    def __init__(self, size: int = 10_000, min_count: int = 1, lowercase: bool = True) -> None:
        at_least(FIRST + 1, size=size)
        at_least(1, min_count=min_count)
        self._size, self.min_count, self.lowercase = size, min_count, lowercase
        self.words: tuple[str, ...] = ()
        self._ids: dict[str, int] = {}

    @property
    def size(self) -> int:
        """Number of ids that a vocabulary may have."""
        return self._size

    def fit(self, texts: Iterable[str]) -> Self:
        """Return the tokenizer with the vocabulary of these texts."""
        counts = Counter(word for text in texts for word, _ in words_of(text, self.lowercase))
        known = [(-count, word) for word, count in counts.items() if count >= self.min_count]
        return self._with([word for _, word in sorted(known)[: self.size - FIRST]])

    def located(self, texts: Sequence[str], max_length: int) -> list[Encoded]:
        """Return each text as at most ``max_length`` tokens, with their places in the text."""
        found = []
        for text in texts:
            pairs = [(self._ids.get(word, UNKNOWN), start) for word, start in words_of(text, self.lowercase)]
            found.append(encoded([one for one, _ in pairs], [start for _, start in pairs], max_length))
        return found

    def identity(self) -> dict[str, Any]:
        """Return the rule and the vocabulary."""
        return {"rule": VERSION, "lowercase": self.lowercase, "words": self.words}

    def state(self) -> dict[str, Any]:
        """Return the vocabulary."""
        return {**super().state(), "words": list(self.words)}

    def restored(self, state: dict[str, Any]) -> Self:
        """Return the tokenizer with the vocabulary of a training.

        Raises:
            UserError: it is that of another tokenizer, or it is too large.
        """
        if state["kind"] != type(self).__name__ or len(state["words"]) > self.size - FIRST:
            raise other_tokenizer(self, state)
        same = self._with(state["words"])
        if same.digest != state["digest"]:
            raise other_tokenizer(self, state)
        return same

    def setting(self) -> dict[str, Any]:
        """Return what to state with a result."""
        fitted = {"vocabulary": len(self.words) + FIRST} if self.words else {}
        return {**super().setting(), **fitted, "lowercase": self.lowercase}

    def _with(self, words: Sequence[str]) -> Self:
        same = type(self)(self.size, self.min_count, self.lowercase)
        same.words = tuple(words)
        same._ids = {word: number for number, word in enumerate(words, start=FIRST)}
        return same
