"""What every form of a data set becomes: a list of images with their classes, and where the bytes of each are."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from PIL import Image

from metalit.data.images.finding import BadFile
from metalit.data.stream import Split

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
    """All images of a data set.

    Attributes:
        entries: sorted by class, then by name.
        bad: images that cannot be used, known without decoding them.
        state: changes whenever an image does; empty if that cannot be told.
    """

    entries: Sequence[Entry]
    bad: Sequence[BadFile]
    state: str


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
    return Listing(sorted(entries, key=itemgetter(0, 1)), sorted(bad), state)


def digest(lines: Iterable[str]) -> str:
    """Return a digest of lines of text."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
