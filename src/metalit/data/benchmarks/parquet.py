"""Parquet files of images and labels, as Hugging Face keeps CIFAR-100: train-*.parquet and test-*.parquet."""

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from metalit.data.benchmarks.base import ArrayForm
from metalit.data.benchmarks.examples import Examples, Wanted
from metalit.data.images.finding import refuse
from metalit.data.images.listing import Listing
from metalit.data.images.parquet import Parquet
from metalit.data.images.reading import SUFFIXES, read_image
from metalit.data.stream import Split


class ParquetFiles(ArrayForm):
    """Parquet files with all classes, each image with the number or the name of its class.

    Args:
        parts: beginnings of the names of the files; one of each must be there.
        folders: folders in which they may lie.
    """

    name = "parquet files"

    def __init__(self, parts: Sequence[str], folders: Sequence[str]) -> None:
        self.parts, self.folders = parts, folders

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the files of all parts."""
        for folder in (place, *(place / name for name in self.folders)):
            found = [sorted(folder.glob(f"{part}*.parquet")) for part in self.parts]
            if all(found):
                return [file for files in found for file in files]
        return []

    def read(self, files: list[Path], wanted: Wanted) -> Examples:
        """Return the images of the split's classes."""
        source = Parquet(files[0].parent, files, {})
        listing = source.listing()
        refuse(listing.bad, "get the files again")
        names = {name: name for name in wanted.classes} | dict(
            zip(map(str, wanted.ranks), wanted.classes, strict=False)
        )
        rows = [row for row in range(len(listing)) if listing.label(row) in names]

        def order(row: int) -> tuple[int, int, int]:
            # that of the parts and their rows, not of names such as "row 10" and "row 2"
            file, group, row_of_group = listing.places[row]
            return files.index(source.files[file]), group, row_of_group

        rows.sort(key=order)
        images = [read_image(source.fetch(listing.places[row]), listing.names[row]) for row in rows]
        labels = np.array([names[listing.label(row)] for row in rows], dtype=np.str_)
        # without any image, the message about the classes says the rest
        pixels = np.stack([np.asarray(image) for image in images]) if rows else np.zeros((0, 1, 1, 3), np.uint8)
        return Examples(pixels, labels, _file_names(listing, rows))


def _file_names(listing: Listing, rows: Sequence[int]) -> list[str]:
    """Return the names of the images' files; nothing if the table has only rows."""
    names = [listing.names[row] for row in rows]
    return names if all(PurePath(name).suffix.lower() in SUFFIXES for name in names) else []
