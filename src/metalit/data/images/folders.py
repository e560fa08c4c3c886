"""Images in folders: ``root/<class>/*`` or ``root/<split>/<class>/*``."""

from collections.abc import Sequence
from pathlib import Path

from metalit.data.class_splits import SPLIT_NAMES, split_of
from metalit.data.images.finding import BadFile, ImageFile, find_images
from metalit.data.images.listing import Entry, Listing, Place, Source, digest, listed
from metalit.data.images.reading import content
from metalit.errors import UserError


class Folders(Source):
    """Folders of classes, at any depth below the class; or folders of splits that hold them.

    Args:
        root: the folder.
        with_splits: whether folders of splits come before those of classes.
    """

    def __init__(self, root: Path, with_splits: bool) -> None:
        self.root, self.with_splits = root, with_splits

    def listing(self) -> Listing:
        """Return all images; an image that lies in no folder of a class is a bad file."""
        found = find_images(self.root)
        entries, bad = [], list(found.bad)
        for image in found.images:
            parts = image.name.split("/", 2)
            if len(parts) > 1 + self.with_splits:
                split = split_of(parts[0]) if self.with_splits else None
                entries.append(Entry(parts[self.with_splits], image.name, image.path, split))
            else:
                bad.append(BadFile(image.name, "it lies in no folder of a class"))
        return listed(entries, bad, state_of_files(found.images))

    def fetch(self, place: Place) -> bytes:
        """Return the content of a file."""
        return content(str(place))

    def describe(self) -> str:
        """Return the form in a few words."""
        return "folders of splits and classes" if self.with_splits else "folders of classes"


def state_of_files(images: Sequence[ImageFile], labels: Sequence[str] = ()) -> str:
    """Return a digest that changes with the label, name, size, time or readability of any of the files."""
    return digest([*(image.name for image in images), *labels, repr([image.state for image in images])])


def has_splits(root: Path) -> bool:
    """Whether the folders in ``root`` are splits.

    Raises:
        UserError: some are, and some are not.
    """
    names = sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    splits = [name for name in names if name.lower() in SPLIT_NAMES]
    if not splits:
        return False
    others = [name for name in names if name not in splits and find_images(root / name).images]
    # one such name among others may be a class; two can hardly be
    if len({split_of(name) for name in splits}) > 1 and others:
        raise UserError(
            f"{root} has folders of splits ({', '.join(splits)}) beside others with images ({', '.join(others[:5])}): "
            "move the others away, or set data.form to folders if all are classes"
        )
    return not others
