"""Labelled images of one split as a form on disk gives them, and the store that every form of them becomes.

The order of a store must not depend on the form, else two people's episodes differ. So classes are sorted by their
published names, and the images of a class by their file names, where the form knows them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metalit.data.store import ClassStore
from metalit.data.stream import Split
from metalit.errors import UserError

Images = npt.NDArray[np.uint8]
NAMED = 5  # classes that a message names


@dataclass(frozen=True)
class Examples:
    """Labelled images in any order.

    Attributes:
        images: ``[n, height, width, 3]`` uint8.
        labels: ``[n]``, the class of each: its published name, or a number where the form has no names.
        names: ``[n]``, the file name of each, or nothing where the form has none.
    """

    images: Images
    labels: npt.NDArray[Any]
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise UserError(f"images {list(images.shape)} of {images.dtype}, expected [n, height, width, 3] of uint8")
        if len(labels) != len(images) or len(self.names) not in (0, len(images)):
            raise UserError(f"{len(images)} images, but {len(labels)} labels and {len(self.names)} names")


@dataclass(frozen=True)
class Wanted:
    """What a form should hold of a split.

    Attributes:
        split: the split.
        classes: the published names of its classes.
        ranks: the number that each of ``classes`` has where a form numbers them; empty if there is no usual one.
    """

    split: Split
    classes: Sequence[str]
    ranks: Sequence[int] = ()


def store_of(examples: Examples, wanted: Wanted) -> ClassStore:
    """Return the store of a split, its classes in the order of their names.

    Raises:
        UserError: the classes are not the published ones; the message says which are missing and which are strange.
    """
    named = class_names(examples.labels, wanted)
    order = np.lexsort((np.array(examples.names), named)) if len(examples.names) else np.argsort(named, kind="stable")
    found, sizes = np.unique(named, return_counts=True)
    items = torch.from_numpy(np.ascontiguousarray(examples.images[order].transpose(0, 3, 1, 2)))
    names = [examples.names[row] for row in order] if examples.names else []
    return ClassStore(items, sizes.astype(np.int64), found.tolist(), names)


def class_names(labels: npt.NDArray[Any], wanted: Wanted) -> npt.NDArray[np.str_]:
    """Return the class names ``[n]`` of labels ``[n]``, which are names or numbers.

    Numbers in an unknown order become ``train/000``, ``train/001``, ...: the classes are distinct, but have no names.

    Raises:
        UserError: the classes are not the published ones, or not as many.
    """
    if labels.dtype.kind not in "iu":
        check_classes(labels.tolist(), wanted)
        return labels.astype(np.str_)
    numbers, place = np.unique(labels, return_inverse=True)
    if numbers.tolist() == sorted(wanted.ranks):
        return np.array([name for _, name in sorted(zip(wanted.ranks, wanted.classes, strict=True))])[place]
    if len(numbers) != len(wanted.classes):
        raise UserError(f"{len(numbers)} classes in the {wanted.split} split, expected {len(wanted.classes)}")
    return np.array([f"{wanted.split}/{number:03}" for number in range(len(numbers))])[place]


def check_classes(found: Iterable[str], wanted: Wanted) -> None:
    """Refuse classes that are not the published ones.

    Raises:
        UserError: the message says which are missing and which are strange.
    """
    own = set(found)
    missing, strange = sorted(set(wanted.classes) - own), sorted(own - set(wanted.classes))
    if missing or strange:
        parts = [f"{kind} {_list(names)}" for kind, names in (("without", missing), ("with", strange)) if names]
        expected = f"expected {len(wanted.classes)}: {' and '.join(parts)}"
        raise UserError(f"{len(own)} classes in the {wanted.split} split, {expected}")


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
