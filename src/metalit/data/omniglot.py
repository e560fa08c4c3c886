"""Omniglot (Lake et al. 2015): 1623 handwritten characters from 50 alphabets, 20 drawings each."""

import io
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from metalit.data.cache import Arrays, cached_arrays, fingerprint
from metalit.data.download import download
from metalit.data.images.picture_form import PictureForm
from metalit.data.module import ClassificationDataModule
from metalit.data.splits import read_splits
from metalit.data.store import ClassStore
from metalit.data.stream import Split
from metalit.errors import UserError, settings_of

URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}
VERSION = "omniglot 28x28 bilinear inverted, 1"  # of the processing; a new one invalidates older caches
DRAWINGS, ORIGINAL_SIZE, SIZE = 20, (105, 105), (28, 28)


class Omniglot(ClassificationDataModule):
    """Omniglot as 28x28 images, strokes 1 on a background of 0.

    ``root`` (or ``root/omniglot``) holds the official ``images_background.zip`` and ``images_evaluation.zip``, or the
    folders they unpack to; missing archives are downloaded to ``root/omniglot``. Processed images are cached in
    ``root/metalit-cache``.

    Drawings are resized as grey values, bilinearly with antialiasing. MAML and ProtoNet resized the 1-bit drawings with
    Pillow, which picks the nearest pixel for such images and thus breaks thin strokes.

    Args:
        splits: ``vinyals`` (1028/172/423 characters, Vinyals et al. 2016), ``background_evaluation`` (806/158/659, no
            alphabet in two splits), or a folder with ``train.txt``, ``val.txt`` and ``test.txt``, one
            ``alphabet/character`` per line.
        rotations: treat the rotations of a character by 0, 90, 180 and 270 degrees as four classes.
        **settings: the settings of ``ClassificationDataModule``.

    Raises:
        SettingError: a list of characters is missing, or an archive is missing and cannot be downloaded.
        UserError: the lists overlap, or an archive is damaged or incomplete.
    """

    def __init__(self, splits: str = "vinyals", rotations: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self.splits, self.rotations = splits, rotations
        # the lists are read at once, so that a mistake in them is found before any download
        self.characters = read_splits("omniglot", splits)
        self._drawings: Arrays | None = None

    def prepare_data(self) -> None:
        """Download and process the drawings in one process per machine, before the others start."""
        self.drawings()

    def drawings(self) -> Arrays:
        """Return ``images [characters, 20, 28, 28]`` uint8, strokes 255, and ``names [characters]``."""
        # kept, so that all splits share one reading; all characters, so that all lists of splits share one cache
        if self._drawings is None:
            with settings_of(type(self)):
                sources = find_sources(self.root)
            files = [file for source in sources for file in source_files(source)]
            cache = self.root / "metalit-cache" / "omniglot.npz"
            print_of_files = fingerprint(VERSION, self.root, files)
            self._drawings = cached_arrays(cache, print_of_files, lambda: read_drawings(sources))
        return self._drawings

    def load(self, split: Split) -> ClassStore:
        """Return the drawings of a split, ``[examples, 1, 28, 28]`` uint8, 20 per class."""
        found = {name: row for row, name in enumerate(self.drawings()["names"].tolist())}
        wanted = self.characters[split]
        missing = [name for name in wanted if name not in found]
        if missing:
            raise UserError(
                f"the {split} split of data.splits={self.splits} has {len(wanted)} characters, but only "
                f"{len(wanted) - len(missing)} of them are in the archives under {self.root}; {missing[0]} is one "
                f"that is not: replace the archives by whole ones from {URL}"
            )
        images = self.drawings()["images"][[found[name] for name in wanted]]
        # All four rotations of a character are in its split: no test class is a rotated training class.
        turns = range(4 if self.rotations else 1)
        turned = np.stack([np.rot90(images, turn, axes=(-2, -1)) for turn in turns], axis=1)
        names = [f"{name}/rot{90 * turn:03}" if self.rotations else name for name in wanted for turn in turns]
        items = torch.from_numpy(turned.reshape(-1, 1, *SIZE))
        return ClassStore(items, np.full(len(names), DRAWINGS, dtype=np.int64), names)

    def example_form(self) -> PictureForm:
        """Return the form of a drawing, dark ink on light paper, as the data set keeps it."""
        return PictureForm(SIZE[0], channels=1, inverted=True)

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: splits, rotations and those of the base class."""
        return {"splits": self.splits, "rotations": self.rotations, **super().setting()}


def find_sources(root: Path) -> list[Path]:
    """Return the archive or folder of each half of Omniglot, downloading missing archives."""
    sources = []
    for half, md5 in MD5.items():
        names = (f"{half}.zip", half)
        places = [folder / name for folder in (root, root / "omniglot") for name in names]
        source = next((place for place in places if place.exists()), None)
        if source is None:
            source = root / "omniglot" / f"{half}.zip"
            download(f"{URL}{half}.zip", source, md5, root)
        sources.append(source)
    return sources


def source_files(source: Path) -> list[Path]:
    """Return the files of a source: the archive itself, or the images in a folder."""
    # macOS leaves "._name.png" beside files copied to other file systems.
    return sorted(source.glob("*/*/[!.]*.png")) if source.is_dir() else [source]


def read_drawings(sources: list[Path]) -> Arrays:
    """Read all drawings: ``images [characters, 20, 28, 28]`` uint8, strokes 255, and ``names [characters]``.

    Raises:
        UserError: an archive or image is damaged, or drawings of a character are missing.
    """
    drawings: dict[str, list[npt.NDArray[np.uint8]]] = defaultdict(list)
    for source in sources:
        for character, file, data in members(source):
            drawings[character].append(decode(data, f"{character}/{file} in {source}"))
    for character, images in drawings.items():
        if len(images) != DRAWINGS:
            raise UserError(
                f"{character} has {len(images)} drawings, expected {DRAWINGS}: replace "
                f"{' and '.join(str(source) for source in sources)} by whole ones from {URL}"
            )
    names = sorted(drawings)
    stacked = np.array([drawings[name] for name in names], dtype=np.uint8).reshape(-1, DRAWINGS, *SIZE)
    return {"images": stacked, "names": np.array(names, dtype=np.str_)}


def members(source: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield ``(alphabet/character, file name, content)`` of every drawing, sorted by name."""
    # sorted, so that archives and folders give the same order of examples on every file system
    if source.is_dir():
        for file in source_files(source):
            yield f"{file.parts[-3]}/{file.parts[-2]}", file.name, file.read_bytes()
        return
    name = "list of members"
    try:
        with zipfile.ZipFile(source) as archive:
            for name in sorted(archive.namelist()):
                half, *character, file_name = name.split("/")
                if half == source.stem and len(character) == 2 and file_name.endswith(".png"):
                    yield "/".join(character), file_name, archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(
            f"{source} is not a sound zip archive ({error}; {name}): delete it, then it is fetched again, "
            f"or put {URL}{source.name} in its place"
        ) from error


def decode(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Convert a PNG with black strokes on white to ``[28, 28]`` uint8 with strokes 255 on 0.

    Raises:
        UserError: the image is unreadable, or its size is not that of Omniglot.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            # before resizing: Pillow resizes 1-bit images by the nearest pixel, which breaks thin strokes
            grey = image.convert("L")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise UserError(f"{name} is not a readable image ({error}): replace it by a whole one") from error
    if grey.size != ORIGINAL_SIZE:
        raise UserError(f"{name} is {grey.size[0]}x{grey.size[1]} pixels, expected 105x105: is it Omniglot?")
    return 255 - np.asarray(grey.resize(SIZE, Image.Resampling.BILINEAR))
