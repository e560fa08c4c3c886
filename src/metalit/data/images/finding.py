"""The image files below a folder, and those that cannot be read."""

import errno
import os
import stat
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from metalit.data.columns import composed
from metalit.data.images.reading import FOREIGN_SUFFIXES, SUFFIXES
from metalit.errors import UserError

NOT_OF_THE_USER = frozenset(["__MACOSX", "metalit-cache"])  # folders of unpacked archives, and metalit's own
SHOWN = 10  # files named in a message


class ImageFile(NamedTuple):
    """A file that looks like an image: its name relative to the root, its path, and its size, time and readability."""

    name: str
    path: str
    state: tuple[int, int, int]


class BadFile(NamedTuple):
    """An image that cannot be used: its name relative to the root, and the reason."""

    name: str
    reason: str


@dataclass
class Found:
    """What a walk has found: ``images`` sorted by name, and ``bad`` files."""

    images: list[ImageFile] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)


@dataclass
class Folder:
    """The images of one folder, without those of folders in it.

    Attributes:
        name: relative to the root, with a ``/`` at its end; empty for the root. In Unicode's composed form.
        path: the same as it stands on disk.
        files: names of the files as they stand on disk, sorted by their composed form.
        states: size, time and readability of the first file, then of the second, and so on.
    """

    name: str
    path: str
    files: list[str] = field(default_factory=list)
    states: "array[int]" = field(default_factory=lambda: array("q"))


@dataclass
class Walked:
    """All folders with images below a root, in a fixed order, and what cannot be used."""

    folders: list[Folder] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)


def find_images(root: Path) -> Found:
    """Return all images below a folder, at any depth, by their suffix in upper or lower case.

    Names are relative to ``root``, with ``/``, in Unicode's composed form (NFC), so that file systems do not matter.
    Hidden files (``._*``, ``.DS_Store``) and other kinds of files (``Thumbs.db``) are left out. Links are followed, but
    no folder is entered twice, so that a circle ends.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    walked = walk(root)
    images = [
        ImageFile(composed(folder.path + file), os.path.join(root, folder.path, file), (size, time, readable))  # noqa: PTH118
        for folder in walked.folders
        for file, size, time, readable in zip(folder.files, *(folder.states[at::3] for at in range(3)), strict=True)
    ]
    return Found(sorted(images), walked.bad)


def walk(root: Path) -> Walked:
    """Return what ``find_images`` returns by folder, with little done for each file: there may be 100 000.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    walked = Walked()
    _walk(str(root), Folder("", ""), {}, walked)
    walked.bad.sort()
    return walked


def state_of(status: os.stat_result) -> tuple[int, int, int]:
    """Return what changes if a file does: its size, its time, and whether it may be read."""
    return status.st_size, status.st_mtime_ns, status.st_mode & 0o444


def list_of(bad: Iterable[BadFile]) -> str:
    """Return bad files in words, the first ten by name."""
    every = list(bad)
    shown = "; ".join(f"{name}: {reason}" for name, reason in every[:SHOWN])
    return shown if len(every) <= SHOWN else f"{shown}; and {len(every) - SHOWN} more"


def refuse(bad: Iterable[BadFile], remedy: str) -> None:
    """Refuse bad files, if there are any, all in one message."""
    if every := list(bad):
        many = "1 image" if len(every) == 1 else f"{len(every)} images"
        raise UserError(f"{many} cannot be used: {list_of(every)}; {remedy}")


def _walk(root: str, folder: Folder, entered: dict[tuple[int, int], str], walked: Walked) -> None:
    path = os.path.join(root, folder.path)  # noqa: PTH118  # not pathlib, which takes three times as long
    try:
        with _opened(path) as (number, status):
            first = entered.setdefault((status.st_dev, status.st_ino), folder.name)
            if first != folder.name:
                reason = f"this link leads to a folder that is read already, {first[:-1] or 'the root'}"
                walked.bad.append(BadFile(folder.name[:-1], reason))
                return
            inner = _add_files(root, _sorted(number), folder, walked.bad)
    except OSError as error:
        walked.bad.append(BadFile(folder.name[:-1] or root, os.strerror(error.errno or 0)))
        return
    if folder.files:
        walked.folders.append(folder)
    for each in inner:
        _walk(root, Folder(f"{folder.name}{composed(each)}/", f"{folder.path}{each}/"), entered, walked)


@contextmanager
def _opened(path: str) -> Iterator[tuple[int, os.stat_result]]:
    # the status of files is asked for relative to the open folder: the system then need not walk the path each time
    number = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(number)
        if not status.st_mode & 0o444:  # root may read it all the same, but should not
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        yield number, status
    finally:
        os.close(number)


def _sorted(folder: int) -> "list[os.DirEntry[str]]":
    with os.scandir(folder) as entries:
        found = sorted(entries, key=attrgetter("name"))
    if not "".join(map(attrgetter("name"), found)).isascii():
        found.sort(key=lambda entry: composed(entry.name))
    return found


def _add_files(root: str, entries: "list[os.DirEntry[str]]", folder: Folder, bad: list[BadFile]) -> list[str]:
    """Add the images among the entries of a folder, and return the names of the folders in it."""
    images, inner = _by_suffix(entries, folder, bad)
    add, extend = folder.files.append, folder.states.extend
    for entry in images:
        try:
            status = entry.stat()
        except OSError as error:
            path = os.path.join(root, folder.path, entry.name)  # noqa: PTH118
            bad.append(BadFile(composed(folder.name + entry.name), _why_no_status(path, error)))
            continue
        if stat.S_ISREG(status.st_mode):
            add(entry.name)
            extend((status.st_size, status.st_mtime_ns, status.st_mode & 0o444))
        elif stat.S_ISDIR(status.st_mode):
            inner.append(entry.name)
        else:
            bad.append(BadFile(composed(folder.name + entry.name), "it is not a regular file"))
    return sorted(inner, key=composed)


def _by_suffix(
    entries: "list[os.DirEntry[str]]", folder: Folder, bad: list[BadFile]
) -> "tuple[list[os.DirEntry[str]], list[str]]":
    """Return the entries that look like images, and the names of folders that do not."""
    images, inner = [], []
    for entry in entries:
        name = entry.name
        suffix = name[name.rfind(".") :]
        if name[0] == "." or name in NOT_OF_THE_USER:
            continue
        if suffix in SUFFIXES or (suffix := suffix.lower()) in SUFFIXES:
            images.append(entry)
        elif _is_folder(entry):
            inner.append(name)
        elif suffix in FOREIGN_SUFFIXES:
            reason = f"{suffix[1:].upper()} photos cannot be read: save it as JPEG or PNG"
            bad.append(BadFile(composed(folder.name + name), reason))
    return images, inner


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _why_no_status(path: str, error: OSError) -> str:
    if os.path.islink(path):  # noqa: PTH114
        return f"this link leads nowhere ({os.strerror(error.errno or 0)})"
    return os.strerror(error.errno or 0)
