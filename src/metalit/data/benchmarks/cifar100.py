"""CIFAR-FS and FC100: two few-shot splits of CIFAR-100's classes, from any form in which people have its images."""

import tarfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from metalit.data.benchmarks.arrays import LabelledPickles, Npz, as_array, entry, integers, text
from metalit.data.benchmarks.base import ArrayForm, Form, ImageBenchmark
from metalit.data.benchmarks.examples import Examples, Wanted
from metalit.data.benchmarks.files import ClassFolders
from metalit.data.benchmarks.parquet import ParquetFiles
from metalit.data.benchmarks.safe_pickle import load_pickle, read_pickle
from metalit.data.download import download
from metalit.data.images.resizing import Resize
from metalit.data.splits import published_classes
from metalit.data.stream import SPLITS, Split
from metalit.errors import UserError

ARCHIVE, FOLDER = "cifar-100-python.tar.gz", "cifar-100-python"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
FILES = ("train", "test", "meta")  # the few-shot splits use the images of both parts of CIFAR-100
PARTS = ("train", "test")
FOLDERS = ("cifar100", "cifar-100", "CIFAR100", "cifar")  # where people keep it
SIDE = 32


class CIFAR100Benchmark(ImageBenchmark, ABC):
    """A few-shot split of CIFAR-100's classes."""

    def forms(self) -> Sequence[Form]:
        """Return the forms, the one to prefer first."""
        return [
            OfficialFiles(),
            OfficialArchive(),
            LabelledPickles(self.file_names(".pickle", ".pkl")),
            Npz(self.file_names(".npz")),
            ParquetFiles(PARTS, ("cifar100", "data")),
            ClassFolders(self.data_set),
        ]

    @property
    @abstractmethod
    def prefix(self) -> str:
        """What the names of its pickles begin with."""

    def file_names(self, *suffixes: str) -> dict[Split, list[str]]:
        """Return the names that the file of each split may have."""
        prefixes = (self.prefix, self.prefix.lower())
        return {split: [f"{prefix}_{split}{suffix}" for prefix in prefixes for suffix in suffixes] for split in SPLITS}

    def resize(self) -> Resize:
        """Return how the images of files become squares; they are already."""
        return Resize(SIDE)

    def ranks(self, classes: Sequence[str]) -> list[int]:
        """Return CIFAR-100's numbers of classes: their ranks among all 100 in alphabetical order."""
        every = sorted(name for split in SPLITS for name in published_classes("cifar_fs")[split])
        return [every.index(name) for name in classes]

    def advice(self) -> str:
        """Return what to get, from where, and where to put it."""
        return f"put {URL} there"

    def fetched(self, split: Split) -> tuple[Form, list[Path]]:
        """Download the official archive to ``root``."""
        download(URL, self.root / ARCHIVE, MD5, self.root)
        return OfficialArchive(), [self.root / ARCHIVE]


class CIFARFS(CIFAR100Benchmark):
    """CIFAR-FS (Bertinetto et al. 2019): CIFAR-100 as 64 training, 16 validation and 20 test classes, 32x32.

    ``root`` holds the official ``cifar-100-python.tar.gz`` or what it unpacks to, MetaOptNet's
    ``CIFAR_FS_<split>.pickle``, Hugging Face's parquet files, or a folder per class. The official archive is
    downloaded if none is there.

    Args:
        **settings: the settings of ``ClassificationDataModule``.

    Raises:
        SettingError: nothing is in ``root``, and the archive cannot be downloaded.
        UserError: files are damaged, or their classes are not those of the split.
    """

    data_set = "cifar_fs"
    prefix = "CIFAR_FS"
    folders = ("cifar-fs", "cifar_fs", "cifarfs", "CIFAR-FS", "CIFAR_FS", *FOLDERS)


class FC100(CIFAR100Benchmark):
    """FC100 (Oreshkin et al. 2018): CIFAR-100 as 60 training, 20 validation and 20 test classes, 32x32.

    No super-class of CIFAR-100 is in two splits. ``root`` holds the official ``cifar-100-python.tar.gz`` or what it
    unpacks to, ``FC100_<split>.pickle``, Hugging Face's parquet files, or a folder per class. The official archive is
    downloaded if none is there.

    Args:
        **settings: the settings of ``ClassificationDataModule``.

    Raises:
        SettingError: nothing is in ``root``, and the archive cannot be downloaded.
        UserError: files are damaged, or their classes are not those of the split.
    """

    data_set = "fc100"
    prefix = "FC100"
    folders = ("fc100", "FC100", *FOLDERS)


class OfficialFiles(ArrayForm):
    """The folder ``cifar-100-python`` with the pickles ``train``, ``test`` and ``meta``."""

    name = "official python files"

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the three files, in ``place`` or in its folder of their name."""
        for folder in (place, place / FOLDER):
            files = [folder / name for name in FILES]
            if all(file.is_file() for file in files):
                return files
        return []

    def read(self, files: list[Path], wanted: Wanted) -> Examples:
        """Return the images of the split's classes from both parts of CIFAR-100."""
        return _chosen([read_pickle(file) for file in files], wanted.classes)


class OfficialArchive(ArrayForm):
    """``cifar-100-python.tar.gz``, not unpacked."""

    name = "official python archive"

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the archive."""
        return [file for file in [place / ARCHIVE] if file.is_file()]

    def read(self, files: list[Path], wanted: Wanted) -> Examples:
        """Return the images of the split's classes from both parts of CIFAR-100."""
        contents = []
        try:
            with tarfile.open(files[0]) as archive:
                for name in FILES:
                    if (file := archive.extractfile(f"{FOLDER}/{name}")) is None:
                        raise UserError(f"{FOLDER}/{name} in it is no file")
                    contents.append(load_pickle(cast("BinaryIO", file), name))
        except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error) as error:
            raise UserError(f"not a sound archive ({error}): delete it, then it is fetched again") from error
        return _chosen(contents, wanted.classes)


def _chosen(contents: list[Any], classes: Sequence[str]) -> Examples:
    """Return the images of some classes from both parts of CIFAR-100."""
    *parts, meta = contents
    known = np.array([text(name) for name in entry(meta, "fine_label_names")])
    images = np.concatenate([_pictures(entry(part, "data")) for part in parts])
    labels = np.concatenate([integers(entry(part, "fine_labels")) for part in parts])
    names = [text(name) for part in parts for name in entry(part, "filenames")]
    if labels.size and not 0 <= labels.min() <= labels.max() < len(known):
        raise UserError(f"labels {labels.min()} to {labels.max()}, but {len(known)} class names")
    wanted = np.flatnonzero(np.isin(known[labels], classes))
    return Examples(images[wanted], known[labels[wanted]], [names[row] for row in wanted])


def _pictures(data: Any) -> Any:
    """Return rows ``[n, 3072]``, channels first, as ``[n, 32, 32, 3]``."""
    rows = as_array(data)
    if rows.ndim != 2 or rows.shape[1] != 3 * SIDE * SIDE:
        raise UserError(f"an array {list(rows.shape)}, expected [n, {3 * SIDE * SIDE}]")
    return rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
