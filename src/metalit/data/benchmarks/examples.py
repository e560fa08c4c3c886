"""Labelled images of one split as a form on disk gives them, and the store that every form of them becomes.

The order of a store must not depend on the form, else two people's episodes differ. So classes are sorted by their
published names, and the images of a class by their file names, where the form knows them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metalit.data.store import ClassStore
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


def store_of(examples: Examples, classes: Sequence[str], split: str, ranks: Sequence[int] = ()) -> ClassStore:
    """Return the store of a split, its classes in the order of their names.

    Args:
        examples: the images of the split.
        classes: the published names of its classes.
        split: the split, for messages and for the names of numbered classes.
        ranks: the number that each of ``classes`` has where a form numbers them, if there is a usual one.

    Raises:
        UserError: the classes are not the published ones; the message says which are missing and which are strange.
    """
    named = _named(examples.labels, classes, split, ranks)
    order = np.lexsort((np.array(examples.names), named)) if len(examples.names) else np.argsort(named, kind="stable")
    found, sizes = np.unique(named, return_counts=True)
    items = torch.from_numpy(np.ascontiguousarray(examples.images[order].transpose(0, 3, 1, 2)))
    return ClassStore(items, sizes.astype(np.int64), [str(name) for name in found])


def _named(labels: npt.NDArray[Any], classes: Sequence[str], split: str, ranks: Sequence[int]) -> npt.NDArray[np.str_]:
    """Return the class names ``[n]`` of labels."""
    if labels.dtype.kind not in "iu":
        check_classes(Counter(labels.tolist()), classes, split)
        return labels.astype(np.str_)
    numbers, place = np.unique(labels, return_inverse=True)
    if numbers.tolist() == sorted(ranks):
        return np.array([name for _, name in sorted(zip(ranks, classes, strict=True))])[place]
    if len(numbers) != len(classes):
        raise UserError(f"{len(numbers)} classes in the {split} split, expected {len(classes)}")
    # numbers in somebody's own order: the set of classes is right, which is which nobody can know
    return np.array([f"{split}/{number:03}" for number in range(len(classes))])[place]


def check_classes(found: Counter[str], classes: Sequence[str], split: str) -> None:
    """Refuse classes that are not the published ones.

    Raises:
        UserError: the message says which are missing and which are strange.
    """
    missing, strange = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
    if missing or strange:
        parts = [f"{kind} {_list(names)}" for kind, names in (("without", missing), ("with", strange)) if names]
        raise UserError(f"{len(found)} classes in the {split} split, expected {len(classes)}: {' and '.join(parts)}")


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
