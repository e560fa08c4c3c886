"""What every tokenizer does: it turns texts into token ids."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from metalit.errors import UserError

Ids = npt.NDArray[np.int32]

PADDING, UNKNOWN, FIRST = 0, 1, 2  # ids of metalit's own tokenizers; words begin at FIRST


class Encoded(NamedTuple):
    """One text as tokens.

    Attributes:
        ids: ``[T]`` int32, at least one.
        starts: ``[T]`` int32, the character of the text at which each token begins; -1 for tokens that are added.
        cut: whether the text has more tokens than these.
    """

    ids: Ids
    starts: Ids
    cut: bool


class Tokenizer(ABC):
    """Turns texts into token ids; a value that does not change. Equal digests mean equal ids for every text."""

    needs_fit: bool = False  # whether the ids are known only after ``fit``

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ids, known before fitting: every id is below it. A network's embedding table needs as many rows."""

    @abstractmethod
    def located(self, texts: Sequence[str], max_length: int) -> list[Encoded]:
        """Return each text as at most ``max_length`` tokens, with their places in the text."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return all that the ids depend on, as JSON can hold it."""

    @property
    def digest(self) -> str:
        """What tells tokenizers with different ids apart, in hexadecimal."""
        described = json.dumps([type(self).__name__, self.identity()], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    def encode(self, texts: Sequence[str], max_length: int = 1 << 30) -> list[Ids]:
        """Return the token ids of each text, ``[T_i]`` int32, at least one and at most ``max_length``."""
        return [encoded.ids for encoded in self.located(texts, max_length)]

    def fit(self, texts: Iterable[str]) -> Self:  # most have nothing to learn from texts
        """Return a tokenizer whose vocabulary is that of these texts, those of the training classes."""
        return self

    def state(self) -> dict[str, Any]:
        """Return what ``fit`` has found, as JSON can hold it, with the class's name and the digest."""
        return {"kind": type(self).__name__, "digest": self.digest}

    def restored(self, state: dict[str, Any]) -> Self:
        """Return the tokenizer whose ``state`` this is.

        Raises:
            UserError: it is that of another tokenizer.
        """
        if state["kind"] != type(self).__name__ or state["digest"] != self.digest:
            raise other_tokenizer(self, state)
        return self

    def setting(self) -> dict[str, Any]:
        """Return what to state with a result."""
        return {"tokenizer": type(self).__name__, "vocabulary": self.size}


def other_tokenizer(tokenizer: Tokenizer, state: dict[str, Any]) -> UserError:
    """Return the error for the state of a training with another tokenizer."""
    kind = type(tokenizer).__name__
    other = "one of other words or settings" if state["kind"] == kind else state["kind"]
    return UserError(
        f"data.tokenizer is {kind}, but the checkpoint was trained with {other}, whose ids mean other words to the "
        "network: give that tokenizer"
    )


def encoded(ids: Sequence[int], starts: Sequence[int], max_length: int) -> Encoded:
    """Return tokens, cut to a length; a text without any is one unknown token."""
    if not ids:
        ids, starts = [UNKNOWN], [-1]
    return Encoded(
        np.array(ids[:max_length], dtype=np.int32),
        np.array(starts[:max_length], dtype=np.int32),
        len(ids) > max_length,
    )
