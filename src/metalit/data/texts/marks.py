"""Marks around two entities of a text, and where they are among its tokens."""

from collections.abc import Sequence

import numpy as np

from metalit.data.cache import Arrays
from metalit.data.texts.ragged import ragged_arrays
from metalit.data.texts.tokenizer import Encoded
from metalit.errors import UserError

HEAD, TAIL = "[E1]", "[E2]"


def with_marks(tokens: Sequence[str], head: Sequence[int], tail: Sequence[int]) -> str:
    """Return words as a text with ``[E1] ... [/E1]`` around the head and ``[E2] ... [/E2]`` around the tail.

    Args:
        tokens: the words.
        head: positions of the head's words; those from the first to the last are marked.
        tail: positions of the tail's words.
    """
    before: dict[int, list[str]] = {}
    after: dict[int, list[str]] = {}
    for name, places in (("E1", head), ("E2", tail)):
        before.setdefault(min(places), []).append(f"[{name}]")
        after.setdefault(max(places), []).insert(0, f"[/{name}]")  # the inner entity ends first
    return " ".join(
        word for at, token in enumerate(tokens) for word in (*before.get(at, ()), token, *after.get(at, ()))
    )


def marked_arrays(texts: Sequence[str], encoded: Sequence[Encoded], names: Sequence[str]) -> Arrays:
    """Return texts as arrays, with ``spans`` ``[n, 2]``: the positions of ``[E1]`` and ``[E2]`` among the tokens.

    A mark beyond the tokens that are kept is at the last of these.

    Args:
        texts: the texts.
        encoded: their tokens.
        names: what messages call them.

    Raises:
        UserError: a text has not both marks.
    """
    spans = [
        [_position(text, tokens, mark, name) for mark in (HEAD, TAIL)]
        for text, tokens, name in zip(texts, encoded, names, strict=True)
    ]
    return {**ragged_arrays(encoded), "spans": np.array(spans, dtype=np.int64).reshape(-1, 2)}


def _position(text: str, tokens: Encoded, mark: str, name: str) -> int:
    character = text.find(mark)
    if character < 0:
        raise UserError(
            f"{name}: it has no {mark}, which marks an entity, as in [E1] Rome [/E1] lies in [E2] Italy [/E2]"
        )
    # the last token that begins at the mark or before: some tokenizers count the space before a word to it
    begun = tokens.starts[tokens.starts <= character]
    return int(np.flatnonzero(tokens.starts == begun.max())[0]) if len(begun) else 0
