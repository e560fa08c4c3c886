"""Forms that hold each split as one array with labels: pickles in several dialects, and npz."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metalit.data.benchmarks.base import ArrayForm
from metalit.data.benchmarks.examples import Examples, Wanted
from metalit.data.benchmarks.safe_pickle import read_pickle
from metalit.data.stream import Split
from metalit.errors import UserError

Names = Mapping[Split, Sequence[str]]  # by split, the names that its file may have
LABELS = ("labels", "label_specific", "label")
TABLES = ("label2catname", "catname2label", "label_specific_str")  # entries with the names of classes


class FilePerSplit(ArrayForm, ABC):
    """One file per split with images ``[n, height, width, 3]`` and labels ``[n]``, by name.

    Args:
        names: by split, the names that its file may have.
    """

    def __init__(self, names: Names) -> None:
        self.names = names

    @abstractmethod
    def content(self, file: Path) -> Any:
        """Return the arrays of a file by their names."""

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the file of the split."""
        return first_of(place, self.names[split])

    def read(self, files: list[Path], wanted: Wanted) -> Examples:
        """Return the images of the file."""
        return labelled(self.content(files[0]), wanted.classes)


class LabelledPickles(FilePerSplit):
    """A pickle per split with ``data`` and ``labels``, as those of MetaOptNet."""

    name = "pickles of data and labels"

    def content(self, file: Path) -> Any:
        """Return what the pickle holds."""
        return read_pickle(file)


class Npz(FilePerSplit):
    """An npz file per split with ``images`` (or ``data``) and ``labels``."""

    name = "npz of images and labels"

    def content(self, file: Path) -> Any:
        """Return the arrays of the file."""
        return read_npz(file)


class ImagesWithLabels(ArrayForm):
    """An array of images in ``<split>_images.npz`` with ``<split>_labels.pkl``, as few-shot-ssl-public unpacks them.

    OpenCV makes the array, whose channels are blue, green, red:
    https://github.com/renmengye/few-shot-ssl-public, ``fewshot/data/compress_tiered_imagenet.py``.
    """

    name = "npz of images with a pickle of labels"

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the two files of the split."""
        files = [place / f"{split}_images.npz", place / f"{split}_labels.pkl"]
        return files if all(file.is_file() for file in files) else []

    def read(self, files: list[Path], wanted: Wanted) -> Examples:
        """Return the images of the first file with the labels of the second."""
        images, content = read_npz(files[0]), read_pickle(files[1])
        labels = named(content, entry(content, *LABELS), wanted.classes)
        return Examples(entry(images, "images")[..., ::-1], labels)


class LearnToLearnCaches(ArrayForm):
    """A pickle per split with ``image_data`` and ``class_dict``, which has the rows of each class by its name."""

    name = "learn2learn caches"

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the file of the split."""
        words = ("validation", "val") if split == "val" else (split,)
        return first_of(place, [f"mini-imagenet-cache-{word}.pkl" for word in words])

    def read(self, files: list[Path], wanted: Wanted) -> Examples:
        """Return the images of the file."""
        content = read_pickle(files[0])
        images, rows_of = as_array(entry(content, "image_data")), entry(content, "class_dict")
        if not isinstance(rows_of, Mapping):
            raise UserError(f"class_dict is a {type(rows_of).__name__}, expected a dict of rows by class name")
        rows = {text(name): integers(own) for name, own in rows_of.items()}
        order = np.concatenate([*rows.values(), np.zeros(0, np.int64)])
        if len(np.unique(order)) != len(order):
            raise UserError("class_dict has a row in two classes")
        if order.size and not 0 <= order.min() <= order.max() < len(images):
            raise UserError(f"class_dict has rows up to {order.max()}, but there are {len(images)} images")
        labels = np.repeat(np.array(list(rows), dtype=np.str_), [len(own) for own in rows.values()])
        return Examples(images[order], labels)


def first_of(place: Path, names: Sequence[str]) -> list[Path]:
    """Return the first file of these names in a folder, or nothing."""
    return [place / name for name in names if (place / name).is_file()][:1]


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an npz file.

    Raises:
        UserError: it is damaged or holds Python objects.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # a damaged file makes NumPy raise nearly any error, MemoryError for a forged shape
        raise UserError(f"{path} is no sound npz file of arrays ({error}): get it again") from error


def labelled(content: Any, classes: Sequence[str]) -> Examples:
    """Return the examples of a dict of images and labels, named if the dict says how."""
    images = as_array(entry(content, "data", "images"))
    numbers = entry(content, *LABELS)
    return Examples(images, named(content, numbers, classes))


def named(content: Any, numbers: Any, classes: Sequence[str]) -> npt.NDArray[Any]:
    """Return labels ``[n]`` as the names of classes, or unchanged if the file's names are not the published ones."""
    labels = as_array(numbers)
    if labels.dtype.kind in "SU":
        return np.array([text(label) for label in labels], dtype=np.str_)
    labels = integers(labels)
    names = _table(content)
    if not set(names.values()) & set(classes) or not set(labels.tolist()) <= set(names):
        return labels
    return np.array([names[label] for label in labels.tolist()], dtype=np.str_)


def _table(content: Any) -> dict[int, str]:
    """Return the names of numbered classes, if a dict holds them."""
    found: Any = next((entry(content, key) for key in TABLES if key in content or key.encode() in content), {})
    if not isinstance(found, Mapping):
        return {number: text(name) for number, name in enumerate(found)}
    pairs = [(key, value) if isinstance(key, int | np.integer) else (value, key) for key, value in found.items()]
    return {int(number): text(name) for number, name in pairs}


def entry(content: Any, *keys: str) -> Any:
    """Return the first of some entries of a dict, whose keys may be text or bytes.

    Raises:
        UserError: it is no dict or has none of them.
    """
    if isinstance(content, Mapping):
        for key in keys:
            for spelling in (key, key.encode()):
                if spelling in content:
                    return content[spelling]
    kind = f"dict with {sorted(map(text, content))}" if isinstance(content, Mapping) else type(content).__name__
    raise UserError(f"a {kind}, expected a dict with {' or '.join(map(repr, keys))}")


def text(value: Any) -> str:
    """Return text that may be bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def as_array(value: Any) -> npt.NDArray[Any]:
    """Return a plain array of an array or list.

    Raises:
        UserError: the parts of a list do not have one shape.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UserError(f"what should be one array is not ({error})") from error


def integers(value: Any) -> npt.NDArray[np.int64]:
    """Return labels ``[n]`` as integers.

    Raises:
        UserError: they are none.
    """
    found = as_array(value)
    if found.size == 0:
        return np.zeros(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise UserError(f"labels {list(found.shape)} of {found.dtype}, expected integers [n]")
    return found.astype(np.int64)
