"""How a user's own text becomes an example of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from metalit.data.cache import Arrays
from metalit.data.texts.cells import text_from
from metalit.data.texts.marks import marked_arrays
from metalit.data.texts.ragged import from_arrays, ragged_arrays
from metalit.data.texts.tokenizer import Tokenizer
from metalit.episode import MarkedTokens, Tokens
from metalit.errors import UserError, at_least


@dataclass(frozen=True)
class TextForm:
    """The form in which a data set keeps its texts.

    Attributes:
        tokenizer: what makes tokens of them; fitted.
        max_length: at most how many tokens a text has; the others are cut off.
        marked: whether each text has two marked places, ``[E1]`` and ``[E2]``.
    """

    tokenizer: Tokenizer
    max_length: int = 64
    marked: bool = False

    def __post_init__(self) -> None:
        at_least(1, max_length=self.max_length)

    def items(self, texts: Sequence[str]) -> Tokens | MarkedTokens:
        """Return texts as examples, ids and mask ``[n, T]`` with T a multiple of 8; errors are those of ``arrays``."""
        return from_arrays(self.arrays(texts)).take(torch.arange(len(texts)))

    def arrays(self, texts: Sequence[str]) -> Arrays:
        """Return texts as the arrays of ``ragged_arrays``, which say too which texts are cut.

        Raises:
            UserError: a text is empty, or it lacks its marks; the message has its number, from 1.
        """
        cleaned = []
        for number, text in enumerate(texts, start=1):
            try:
                cleaned.append(text_from(text))
            except UserError as error:
                raise UserError(f"text {number}: {error}") from None
        encoded = self.tokenizer.located(cleaned, self.max_length)
        names = [f"text {number}" for number in range(1, len(cleaned) + 1)]
        return marked_arrays(cleaned, encoded, names) if self.marked else ragged_arrays(encoded)

    def state(self) -> dict[str, Any]:
        """Return what the training has fitted, as JSON can hold it."""
        return self.tokenizer.state()

    def restored(self, state: dict[str, Any]) -> Self:
        """Return the form of a training whose ``state`` this is.

        Raises:
            UserError: it is that of another tokenizer.
        """
        return replace(self, tokenizer=self.tokenizer.restored(state))
