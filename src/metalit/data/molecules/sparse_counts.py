"""Vectors of counts of which most are 0, such as fingerprints, kept as the others alone."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metalit.data.cache import Arrays
from metalit.data.store import Examples


class SparseCounts(Examples):
    """Vectors of counts ``[n, length]`` in rows of (column, count): some fifty of 2048 in a molecule's fingerprint.

    Args:
        columns: ``[sum of entries]`` int16, one vector after another.
        counts: ``[sum of entries]`` uint8, >= 1.
        offsets: ``[n + 1]`` int64; vector i has the entries ``offsets[i] .. offsets[i + 1] - 1``.
        length: of a vector.
    """

    dtype = torch.float32

    def __init__(self, columns: Tensor, counts: Tensor, offsets: Tensor, length: int) -> None:
        self.columns, self.counts, self.offsets = columns, counts, offsets
        self.shape, self.device = torch.Size([len(offsets) - 1, length]), columns.device

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Return the vectors ``[m]`` as ``[m, length]`` float32."""
        rows = rows.to(self.device)
        first = self.offsets[rows]
        sizes = self.offsets[rows + 1] - first
        which = torch.repeat_interleave(sizes)  # the vector of each entry
        places = torch.arange(len(which), device=self.device) - (sizes.cumsum(0) - sizes - first)[which]
        vectors = torch.zeros(len(rows), self.shape[1], device=self.device)
        vectors[which, self.columns[places].long()] = self.counts[places].to(vectors.dtype)
        return vectors

    def to(self, device: torch.device) -> "SparseCounts":
        """Return the vectors on another device."""
        columns, counts, offsets = (each.to(device) for each in (self.columns, self.counts, self.offsets))
        return SparseCounts(columns, counts, offsets, self.shape[1])


class ChosenExamples(Examples):
    """Some of the rows of other examples.

    Args:
        examples: the others, or a tensor of them.
        rows: ``[m]`` int64, the rows in their new order.
    """

    def __init__(self, examples: Any, rows: Tensor) -> None:
        self.examples, self.rows = examples, rows
        self.dtype, self.device = examples.dtype, examples.device
        self.shape = torch.Size([len(rows), *examples.shape[1:]])

    def index_select(self, dim: int, rows: Tensor) -> Any:
        """Return the rows ``[m]`` as the others return them."""
        return self.examples.index_select(0, self.rows[rows])

    def parts(self, *rows: Tensor) -> list[Any]:
        """Return several selections for one episode."""
        return self.examples.parts(*(self.rows[each.to(self.device)] for each in rows))  # type: ignore[no-any-return]

    def to(self, device: torch.device) -> "ChosenExamples":
        """Return the examples on another device."""
        return ChosenExamples(self.examples.to(device), self.rows.to(device))


def from_arrays(arrays: Arrays) -> SparseCounts:
    """Return the vectors of ``columns``, ``counts``, ``offsets`` and ``length``."""
    columns, counts, offsets = (torch.from_numpy(arrays[name]) for name in ("columns", "counts", "offsets"))
    return SparseCounts(columns, counts, offsets, int(arrays["length"]))


def offsets_of(sizes: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return where each of several sequences begins if one follows another, and the end of the last, ``[n + 1]``."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.array(sizes, dtype=np.int64))])
