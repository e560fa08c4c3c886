"""Data sets that are Python objects, as of torchvision: ``len``, an index, and the targets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metalit.data.class_splits import split_of
from metalit.data.columns import composed, label_from
from metalit.data.images.finding import ImageFile, state_of
from metalit.data.images.folders import state_of_files
from metalit.data.images.listing import Entry, Listing, Place, Source, listed
from metalit.data.images.reading import content
from metalit.errors import UserError


class Objects(Source):
    """An object with ``__len__``, ``__getitem__`` and ``targets``, or one for each split.

    An item is a pair of image and label; the image is a PIL image, or an array or tensor ``[H, W, 3]``, ``[3, H, W]``
    or ``[H, W]``, uint8 or floats in [0, 1]. With ``samples``, pairs of a path and a label, the files are read instead:
    then transformations do not count, and the images can be cached. ``classes`` names the labels, if it is there.

    Args:
        datasets: an object, or a mapping of splits to objects.
    """

    def __init__(self, datasets: Any) -> None:
        every = datasets if isinstance(datasets, Mapping) else {None: datasets}
        self.datasets = [(None if name is None else split_of(str(name)), each) for name, each in every.items()]

    def listing(self) -> Listing:
        """Return all images; without files, their state cannot be told."""
        entries: list[Entry] = []
        files: list[ImageFile] = []
        for number, (split, dataset) in enumerate(self.datasets):
            samples, classes = getattr(dataset, "samples", None), getattr(dataset, "classes", None)
            targets = [target for _, target in samples] if samples else _targets(dataset)
            for index, target in enumerate(targets):
                label = label_from(target if classes is None else _named(classes, target, index))
                if samples:
                    path = Path(samples[index][0])
                    files.append(ImageFile(composed(str(path)), str(path), state_of(path.stat())))
                    entries.append(Entry(label, files[-1].name, str(path), split))
                else:
                    entries.append(Entry(label, f"{split or 'item'} {index:09}", (number, index), split))
        labels = [entry.label for entry in entries]
        return listed(entries, [], state_of_files(files, labels) if len(files) == len(entries) else "")

    def fetch(self, place: Place) -> bytes | Image.Image:
        """Return the content of a file, or the image of an item."""
        if isinstance(place, str):
            return content(place)
        number, index = place
        return as_image(self.datasets[number][1][index][0])

    def describe(self) -> str:
        """Return the form in a few words."""
        return " and ".join(dict.fromkeys(type(dataset).__name__ for _, dataset in self.datasets))


def as_image(item: Any) -> Image.Image:
    """Return an image as Pillow's.

    Raises:
        UserError: it is none.
    """
    if isinstance(item, Image.Image):
        return item
    pixels = np.asarray(item)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if np.issubdtype(pixels.dtype, np.floating) and pixels.size and pixels.min() >= 0 and pixels.max() <= 1:
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise UserError(
            f"it is an array of {pixels.dtype} {list(pixels.shape)}, expected uint8, or floats in [0, 1], of the shape "
            "[H, W, 3], [3, H, W] or [H, W]"
        )
    return Image.fromarray(pixels)


def _named(classes: Any, target: Any, index: int) -> Any:
    # a number below 0, which stands for no label, would be the last class to Python
    number = int(target)
    if not 0 <= number < len(classes):
        raise UserError(
            f"data.dataset: the target of item {index} is {number}, expected the number of one of its {len(classes)} "
            "classes: leave it out"
        )
    return classes[number]


def _targets(dataset: Any) -> list[Any]:
    for name in ("targets", "labels", "_labels"):
        if (found := getattr(dataset, name, None)) is not None:
            targets = list(np.asarray(found).tolist())
            break
    else:
        raise UserError(f"data.dataset is a {type(dataset).__name__} without targets, expected targets, one per item")
    if len(targets) != len(dataset):
        raise UserError(
            f"data.dataset: the {type(dataset).__name__} has {len(dataset)} items and {len(targets)} targets"
        )
    return targets
