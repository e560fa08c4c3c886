"""Texts of different lengths as one flat array of token ids."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metalit.data.cache import Arrays
from metalit.data.store import Examples
from metalit.data.stream import Integers
from metalit.data.texts.tokenizer import Encoded
from metalit.episode import MarkedTokens, Tokens
from metalit.functional.batches import padded


class RaggedTokens(Examples):
    """Texts as token ids without padding. Selections are padded to the next multiple of 8 of their longest text.

    Args:
        ids: ``[sum T_i]`` int32, the tokens of all texts, one text after another.
        offsets: ``[n + 1]`` int64; text i has the tokens ``offsets[i] .. offsets[i + 1] - 1``, at least one.
        spans: ``[n, 2]`` int64, positions of two marks in each text; or None.
    """

    dtype = torch.int64

    def __init__(self, ids: Tensor, offsets: Tensor, spans: Tensor | None = None) -> None:
        self.ids, self.offsets, self.spans = ids, offsets, spans
        self.shape, self.device = torch.Size([len(offsets) - 1]), ids.device

    def index_select(self, dim: int, rows: Tensor) -> Tokens | MarkedTokens:
        """Return the texts ``[m]`` with ids and mask ``[m, T]``."""
        return self.take(rows)

    def take(self, rows: Tensor) -> Tokens | MarkedTokens:
        """Return the texts ``[...]`` with ids and mask ``[..., T]``."""
        return self.parts(rows)[0]

    def parts(self, *rows: Tensor) -> list[Tokens | MarkedTokens]:
        """Return several selections of texts, padded to one length."""
        rows = tuple(each.to(self.device) for each in rows)
        ends = [(self.offsets[each], self.offsets[each + 1]) for each in rows]
        longest = max((int((last - first).max()) for first, last in ends if first.numel()), default=1)
        return [self._padded(each, *both, padded(longest)) for each, both in zip(rows, ends, strict=True)]

    def selected(self, rows: Integers) -> "RaggedTokens":
        """Return these texts, ``[m]``, in that order."""
        chosen = torch.from_numpy(rows).to(self.device)
        lengths = (self.offsets[1:] - self.offsets[:-1])[chosen]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        # each token's place: that of its text, and its number within the text
        places = torch.arange(int(offsets[-1]), device=self.device) - offsets[:-1].repeat_interleave(lengths)
        places += self.offsets[chosen].repeat_interleave(lengths)
        return RaggedTokens(self.ids[places], offsets, None if self.spans is None else self.spans[chosen])

    def to(self, device: torch.device) -> "RaggedTokens":
        """Return the texts on another device."""
        spans = None if self.spans is None else self.spans.to(device)
        return RaggedTokens(self.ids.to(device), self.offsets.to(device), spans)

    def _padded(self, rows: Tensor, first: Tensor, last: Tensor, length: int) -> Tokens | MarkedTokens:
        places = first[..., None] + torch.arange(length, device=self.device)
        mask = places < last[..., None]
        ids = self.ids[places.clamp_(max=max(len(self.ids) - 1, 0))].to(torch.int64) * mask
        return Tokens(ids, mask) if self.spans is None else MarkedTokens(ids, mask, self.spans[rows])


class LazyTokens(Examples):
    """Texts that become tokens when an episode needs them first: by then a checkpoint may have brought a vocabulary.

    Args:
        count: number of texts.
        make: returns their tokens; called once.
    """

    dtype = torch.int64

    def __init__(self, count: int, make: Callable[[], RaggedTokens]) -> None:
        self.shape, self.make = torch.Size([count]), make

    @cached_property
    def tokens(self) -> RaggedTokens:
        """The tokens."""
        return self.make()

    def index_select(self, dim: int, rows: Tensor) -> Tokens | MarkedTokens:
        """Return the texts ``[m]`` with ids and mask ``[m, T]``."""
        return self.tokens.take(rows)

    def take(self, rows: Tensor) -> Tokens | MarkedTokens:
        """Return the texts ``[...]`` with ids and mask ``[..., T]``."""
        return self.tokens.take(rows)

    def parts(self, *rows: Tensor) -> list[Any]:
        """Return several selections of texts, padded to one length."""
        return list(self.tokens.parts(*rows))

    def to(self, device: torch.device) -> RaggedTokens:
        """Return the tokens on a device."""
        return self.tokens.to(device)


def ragged_arrays(texts: Sequence[Encoded]) -> Arrays:
    """Return texts as arrays: ``ids``, ``offsets`` and ``cut`` ``[n]`` bool."""
    lengths = np.array([len(each.ids) for each in texts], dtype=np.int64)
    return {
        "ids": np.concatenate([each.ids for each in texts]) if texts else np.zeros(0, dtype=np.int32),
        "offsets": np.concatenate([np.zeros(1, dtype=np.int64), lengths.cumsum()]),
        "cut": np.array([each.cut for each in texts], dtype=bool),
    }


def from_arrays(arrays: Arrays) -> RaggedTokens:
    """Return the texts in the arrays of ``ragged_arrays``, and ``spans`` if they are among them."""
    spans = torch.from_numpy(arrays["spans"]) if "spans" in arrays else None
    return RaggedTokens(torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["offsets"]), spans)
