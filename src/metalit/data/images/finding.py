"""The image files below a folder, and those that cannot be read."""

import errno
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from metalit.data.images.reading import FOREIGN_SUFFIXES, SUFFIXES
from metalit.errors import UserError

NOT_OF_THE_USER = frozenset(["__MACOSX", "metalit-cache"])  # folders of unpacked archives, and metalit's own
SHOWN = 10  # files named in a message


class ImageFile(NamedTuple):
    """A file that looks like an image: its name relative to the root, its path, and what changes with its content."""

    name: str
    path: str
    state: str


class BadFile(NamedTuple):
    """An image that cannot be used: its name relative to the root, and the reason."""

    name: str
    reason: str


@dataclass
class Found:
    """What a walk has found: ``images`` sorted by name, and ``bad`` files."""

    images: list[ImageFile] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)


def find_images(root: Path) -> Found:
    """Return all images below a folder, at any depth, by their suffix in upper or lower case.

    Names are relative to ``root``, with ``/``, in Unicode's composed form (NFC), so that file systems do not matter.
    Hidden files (``._*``, ``.DS_Store``) and other kinds of files (``Thumbs.db``) are left out. Links are followed, but
    no folder is entered twice, so that a circle ends.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    found = Found()
    _walk(str(root), "", {}, found)
    found.images.sort()
    found.bad.sort()
    return found


def composed(name: str) -> str:
    """Return a name in Unicode's composed form: macOS writes "é" as two characters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def state_of(status: os.stat_result) -> str:
    """Return what changes if a file does: its size, its time, and whether it may be read."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_mode & 0o444}"


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


def _walk(folder: str, name: str, entered: dict[tuple[int, int], str], found: Found) -> None:
    try:
        status = os.stat(folder)  # noqa: PTH116  # as below
        first = entered.setdefault((status.st_dev, status.st_ino), name or "the root")
        if first != (name or "the root"):
            found.bad.append(BadFile(name, f"this link leads to a folder that is read already, {first}"))
            return
        if not status.st_mode & 0o444:  # root may read it all the same, but should not
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        entries = sorted(_entries(folder))
    except OSError as error:
        found.bad.append(BadFile(name or folder, os.strerror(error.errno or 0)))
        return
    for entry_name, is_folder, path in entries:
        full = f"{name}/{entry_name}" if name else entry_name
        if is_folder:
            _walk(path, full, entered, found)
        else:
            _add(path, full, found)


def _entries(folder: str) -> Iterator[tuple[str, bool, str]]:
    # os.scandir and not pathlib, which takes three times as long over 100 000 files
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name not in NOT_OF_THE_USER:
                is_folder = _is_folder(entry)
                if is_folder or _suffix(entry.name) in SUFFIXES or _suffix(entry.name) in FOREIGN_SUFFIXES:
                    yield composed(entry.name), is_folder, entry.path


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # as above


def _add(path: str, name: str, found: Found) -> None:
    if _suffix(name) in FOREIGN_SUFFIXES:
        found.bad.append(BadFile(name, f"{_suffix(name)[1:].upper()} photos cannot be read: save it as JPEG or PNG"))
        return
    try:
        status = os.stat(path)  # noqa: PTH116  # as above
    except OSError as error:
        found.bad.append(BadFile(name, _why_no_status(path, error)))
        return
    if stat.S_ISREG(status.st_mode):
        found.images.append(ImageFile(name, path, state_of(status)))
    else:
        found.bad.append(BadFile(name, "it is not a regular file"))


def _why_no_status(path: str, error: OSError) -> str:
    if os.path.islink(path):  # noqa: PTH114
        return f"this link leads nowhere ({os.strerror(error.errno or 0)})"
    return os.strerror(error.errno or 0)
