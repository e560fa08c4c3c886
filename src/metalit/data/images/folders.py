"""Images in folders: ``root/<class>/*`` or ``root/<split>/<class>/*``."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metalit.data.class_splits import SPLIT_NAMES, split_of
from metalit.data.columns import composed
from metalit.data.images.finding import BadFile, Folder, ImageFile, find_images, walk
from metalit.data.images.listing import Listing, Place, Source, digest
from metalit.data.images.names import Names
from metalit.data.images.reading import content
from metalit.data.stream import SPLITS, Integers
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
        walked = walk(self.root)
        by_class: dict[str, list[Folder]] = {}
        bad = list(walked.bad)
        for folder in walked.folders:
            parts = folder.name.split("/")
            if len(parts) > 1 + self.with_splits:
                by_class.setdefault(parts[self.with_splits], []).append(folder)
            else:
                bad += [
                    BadFile(composed(folder.name + file), "it lies in no folder of a class") for file in folder.files
                ]
        return self._listed(dict(sorted(by_class.items())), sorted(bad), state_of_folders(walked.folders))

    def fetch(self, place: Place) -> bytes:
        """Return the content of a file, given its path relative to the root."""
        return content(f"{self.root}/{place}")

    def describe(self) -> str:
        """Return the form in a few words."""
        return "folders of splits and classes" if self.with_splits else "folders of classes"

    def _listed(self, by_class: Mapping[str, Sequence[Folder]], bad: Sequence[BadFile], state: str) -> Listing:
        files: list[str] = []
        sizes = []
        for folders in by_class.values():
            of_class = [folder.path + file for folder in folders for file in folder.files]
            if len(folders) > 1:
                of_class.sort(key=lambda file: (composed(file), file))
            files += of_class
            sizes.append(len(of_class))
        on_disk = Names(files)
        names = on_disk if on_disk.isascii() else Names(map(composed, files))
        labels = np.repeat(np.arange(len(by_class)), sizes)
        return Listing(list(by_class), labels, names, on_disk, bad, state, self._splits(files))

    def _splits(self, files: Sequence[str]) -> Integers | None:
        if not self.with_splits:
            return None
        first = [file.partition("/")[0] for file in files]
        numbers = {name: SPLITS.index(split_of(name)) for name in set(first)}
        return np.array([numbers[name] for name in first], dtype=np.int64)


def state_of_files(images: Sequence[ImageFile], labels: Sequence[str] = ()) -> str:
    """Return a digest that changes with the label, name, size, time or readability of any of the files."""
    return digest([*(image.name for image in images), *labels, repr([image.state for image in images])])


def state_of_folders(folders: Sequence[Folder]) -> str:
    """Return a digest that changes with the name, size, time or readability of any of the files."""
    found = hashlib.sha256()
    for folder in folders:
        names = "\0".join([folder.name, *folder.files, ""])
        found.update(composed(names).encode(errors="surrogateescape"))
        found.update(folder.states)
    return found.hexdigest()


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
