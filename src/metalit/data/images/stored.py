"""Examples that stay in files: decoded ones, read by position, and encoded ones, decoded at each access."""

import os
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metalit.data.images.reading import decode, quiet, reason
from metalit.data.images.resizing import Resize
from metalit.data.store import Examples
from metalit.data.stream import Integers
from metalit.errors import UserError

RUN = 1 << 26  # bytes that are read at once
SHORTER = "the cache has become shorter: delete it, then it is made again"


class FileExamples(Examples):
    """Decoded images in one file, of which only those of an episode come into memory.

    They are read by position through the operating system's cache, not mapped: mapped pages would count as memory of
    this process until the system takes them back.

    Args:
        path: the file, images one after another.
        rows: ``[n]``, the images of the file that are the examples, in order.
        shape: shape of one image.
    """

    dtype = torch.uint8

    def __init__(self, path: Path, rows: Integers, shape: Sequence[int]) -> None:
        self.path, self.rows, self.shape = path, rows, torch.Size([len(rows), *shape])
        self._open()

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Return the rows ``[m]`` as ``[m, 3, H, W]`` uint8."""
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        size = found[0].nbytes if len(found) else 0
        for target, row in zip(found, self.rows[rows.numpy()].tolist(), strict=True):
            if os.preadv(self._file, [target.data], row * size) != size:
                raise UserError(f"{self.path}: {SHORTER}")
        return torch.from_numpy(found)

    def in_memory(self) -> Tensor:
        """Return all examples as a tensor, read in long runs."""
        found = np.empty(tuple(self.shape), dtype=np.uint8)
        size = found[0].nbytes
        ends = [*(np.flatnonzero(np.diff(self.rows) != 1) + 1).tolist(), len(self.rows)]
        first = 0
        for end in ends:
            while first < end:
                last = min(end, first + max(RUN // size, 1))
                run = found[first:last]
                if os.preadv(self._file, [run.data], int(self.rows[first]) * size) != run.nbytes:
                    raise UserError(f"{self.path}: {SHORTER}")
                first = last
        return torch.from_numpy(found)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        # kept open, so that the file may be replaced by a newer cache meanwhile
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)


class EncodedExamples(Examples):
    """Images as the bytes of their files, decoded and resized at each access, by several threads.

    Args:
        data: the files one after another, uint8; memory or a mapped file.
        offsets: ``[n + 1]``, where each file begins, and the end of the last.
        resize: how images become squares.
        names: ``n`` names for messages.
        rows: ``[m]``, the files that are the examples, in order; all if not given.
    """

    dtype = torch.uint8

    def __init__(
        self,
        data: npt.NDArray[np.uint8],
        offsets: Integers,
        resize: Resize,
        names: Sequence[str],
        rows: Integers | None = None,
    ) -> None:
        self.data, self.offsets, self.resize, self.names = data, offsets, resize, names
        self.rows = np.arange(len(offsets) - 1) if rows is None else rows
        self.shape = torch.Size([len(self.rows), 3, resize.size, resize.size])

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Return the rows ``[m]`` as ``[m, 3, size, size]`` uint8."""
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)

        def fill(at: int, row: int) -> None:
            found[at] = self._decoded(row)

        # the filter of warnings belongs to the process, so it is set once around all threads
        with quiet(), ThreadPoolExecutor(torch.get_num_threads()) as threads:
            list(threads.map(fill, range(len(rows)), self.rows[rows.numpy()].tolist()))
        return torch.from_numpy(found)

    def _decoded(self, row: int) -> npt.NDArray[np.uint8]:
        try:
            return self.resize(
                decode(self.data[self.offsets[row] : self.offsets[row + 1]].tobytes(), self.resize.decoded)
            )
        except Exception as error:  # a damaged file makes Pillow raise nearly any exception
            raise UserError(f"{self.names[row]}: {reason(error)}") from error
