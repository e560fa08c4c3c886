"""The cache of decoded images: a folder of its own for each state of the files and each way of resizing."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from metalit.data.cache import atomic_folder
from metalit.data.images.building import ENCODED, INDEX, PIXELS, Built, build
from metalit.data.images.listing import Listing, Source
from metalit.data.images.resizing import Resize
from metalit.data.images.stored import EncodedExamples, FileExamples
from metalit.data.stream import Integers
from metalit.errors import SettingError
from metalit.files import write_csv, write_text

VERSION = "1"  # of the processing; a new one invalidates older caches

LEFT_OUT = "left-out.csv"  # images that are not in use, with the reason, for people to read


class ImageCache:
    """Where the images of a data set lie once they are decoded.

    Args:
        folder: the folder of all caches.
        owner: what tells the data set from others whose caches lie in the same folder.
        source: the data set.
        listing: its images.
        resize: how they become squares.
        keep_files: keep the bytes of their files and not their pixels.
    """

    def __init__(
        self, folder: Path, owner: str, source: Source, listing: Listing, resize: Resize, keep_files: bool
    ) -> None:
        self.folder, self.source, self.listing = folder, source, listing
        self.resize, self.keep_files = resize, keep_files
        # The settings come first in the name: caches of older states of the files are known by it, and removed.
        settings = [VERSION, owner, source.describe(), resize.describe(), str(keep_files)]
        self.prefix = f"images-{_short(settings)}-"
        self.path = folder / f"{self.prefix}{_short([listing.state])}"

    @property
    def left_out(self) -> Path:
        """The table of the images that are not in use."""
        return self.path / LEFT_OUT

    def read(self) -> Built | None:
        """Return what was built, or None if there is no whole cache of these files and settings."""
        try:
            index = json.loads((self.path / INDEX).read_text(encoding="utf-8"))
            built = Built({int(row): reason for row, reason in index["bad"].items()}, index["offsets"])
            wanted = built.offsets[-1] if self.keep_files else len(self.listing) * 3 * self.resize.size**2
            whole = (self.path / (ENCODED if self.keep_files else PIXELS)).stat().st_size == wanted
        except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):  # a damaged one is made again
            return None
        return built if whole else None

    def build(self, processes: int, keep_if_bad: bool) -> Built:
        """Decode all images into the cache; it becomes visible when it is whole.

        Args:
            processes: how many processes decode.
            keep_if_bad: keep the cache even if there are bad images.

        Raises:
            SettingError: the cache cannot be written.
        """
        try:
            with atomic_folder(self.path, lambda: self.read() is not None) as folder:
                built = build(self.source, self.listing, self.resize, folder, self.keep_files, processes)
                if built.bad and not keep_if_bad:
                    shutil.rmtree(folder)  # nothing to move into place
                else:
                    bad = [*self.listing.bad, *((self.listing.names[row], reason) for row, reason in built.bad.items())]
                    write_csv(folder / LEFT_OUT, [("file", "reason"), *sorted(bad)])
                    write_text(folder / INDEX, json.dumps(asdict(built)))
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise SettingError("cache_dir", self.folder, f"a folder that can be written to ({error})") from error
        self._remove_older()
        return built

    def _remove_older(self) -> None:
        for other in self.folder.glob(f"{self.prefix}*"):
            if other != self.path:
                shutil.rmtree(other, ignore_errors=True)

    def examples(self, rows: Integers, in_memory: bool) -> Any:
        """Return these images, in order, as a tensor ``[n, 3, size, size]`` uint8 or as ``Examples`` in files.

        Args:
            rows: ``[n]``, rows of the listing.
            in_memory: read the pixels into memory.
        """
        if self.keep_files:
            built = self.read()
            assert built is not None
            offsets = np.array(built.offsets)
            # an empty file cannot be mapped
            data = np.memmap(self.path / ENCODED, np.uint8, "r") if offsets[-1] else np.zeros(0, np.uint8)
            return EncodedExamples(data, offsets, self.resize, self.listing.names, rows)
        examples = FileExamples(self.path / PIXELS, rows, (3, self.resize.size, self.resize.size))
        return examples.in_memory() if in_memory else examples


def _short(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]
