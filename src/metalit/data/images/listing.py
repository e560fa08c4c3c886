"""What every form of a data set becomes: a list of images with their classes, and where the bytes of each are."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from metalit.data.class_splits import split_numbers
from metalit.data.images.finding import BadFile
from metalit.data.images.names import Names
from metalit.data.stream import Integers, Split
from metalit.errors import SettingError

Place = Any  # of a source's own kind; it can be pickled


class Entry(NamedTuple):
    """One image.

    Attributes:
        label: name of its class.
        name: what messages and results call it; it gives the order within a class.
        place: where ``Source.fetch`` finds it.
        split: the split that the data set gives it, if it does.
        group: what belongs together, such as a super-category, if the data set says so.
    """

    label: str
    name: str
    place: Place
    split: Split | None = None
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """All images of a data set, sorted by class, then by name; as columns, for there may be many.

    Attributes:
        classes: names of the classes, sorted.
        labels: ``[n]`` int64, the number of each image's class.
        names: ``n`` names, as in ``Entry``.
        places: ``n`` places.
        bad: images that cannot be used, known without decoding them.
        state: changes whenever an image does; empty if that cannot be told.
        splits: ``[n]`` int64, the number in ``SPLITS`` that the data set gives each image, -1 for none; or None.
        groups: ``n`` groups, None for an image without; or nothing.
    """

    classes: Sequence[str]
    labels: Integers
    names: Names
    places: Sequence[Place]
    bad: Sequence[BadFile]
    state: str
    splits: Integers | None = None
    groups: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def label(self, row: int) -> str:
        """Return the name of an image's class."""
        return self.classes[int(self.labels[row])]

    def only(self, classes: Sequence[str]) -> "Listing":
        """Return the images of some classes, as a data set of its own.

        Raises:
            SettingError: there is no such class.
        """
        if unknown := sorted(set(classes) - set(self.classes)):
            shown = ", ".join(self.classes[:5])
            raise SettingError("only_classes", unknown[0], f"one of the {len(self.classes)} classes ({shown}, ...)")
        kept = sorted(set(classes))
        rows = np.flatnonzero(np.isin(self.labels, [self.classes.index(name) for name in kept]))
        numbers = np.searchsorted(np.unique(self.labels[rows]), self.labels[rows])
        return Listing(
            kept,
            numbers.astype(np.int64),
            self.names.take(rows),
            [self.places[row] for row in rows.tolist()],
            self.bad,
            self.state and digest([self.state, *kept]),
            None if self.splits is None else self.splits[rows],
            [self.groups[row] for row in rows.tolist()] if self.groups else (),
        )

    def rows(self, number: int) -> range:
        """Return the images of a class, given its number."""
        first, end = np.searchsorted(self.labels, [number, number + 1]).tolist()
        return range(first, end)


class Source(ABC):
    """A form in which people have their images. It travels to the processes that decode."""

    @abstractmethod
    def listing(self) -> Listing:
        """Return all images.

        Raises:
            UserError: the data set contradicts itself; the message names the file.
        """

    @abstractmethod
    def fetch(self, place: Place) -> bytes | Image.Image:
        """Return the encoded content of an image, or its pixels if it is in memory."""

    def describe(self) -> str:
        """Return the form in a few words."""
        return type(self).__name__


def listed(entries: Iterable[Entry], bad: Iterable[BadFile], state: str) -> Listing:
    """Return a listing in its order: images of one class and name stay in the order of the source."""
    every = sorted(entries, key=itemgetter(0, 1))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(entry.label for entry in every))}
    return Listing(
        list(numbers),
        np.array([numbers[entry.label] for entry in every], dtype=np.int64),
        Names(entry.name for entry in every),
        [entry.place for entry in every],
        sorted(bad),
        state,
        split_numbers(entry.split for entry in every),
        [entry.group for entry in every],
    )


def digest(lines: Iterable[str]) -> str:
    """Return a digest of lines of text."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
