"""The image files below a folder, and those that cannot be read."""

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter
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


def _walk(folder: str, name: str, entered: dict[tuple[int, int], str], found: Found) -> None:
    try:
        status = os.stat(folder)  # noqa: PTH116  # not pathlib, which takes three times as long over 100 000 files
        first = entered.setdefault((status.st_dev, status.st_ino), name or "the root")
        if first != (name or "the root"):
            found.bad.append(BadFile(name, f"this link leads to a folder that is read already, {first}"))
            return
        if not status.st_mode & 0o444:  # root may read it all the same, but should not
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with os.scandir(folder) as entries:
            by_name = sorted(((composed(entry.name), entry) for entry in entries), key=itemgetter(0))
    except OSError as error:
        found.bad.append(BadFile(name or folder, os.strerror(error.errno or 0)))
        return
    prefix = f"{name}/" if name else ""
    for entry_name, entry in by_name:
        if entry_name[0] != "." and entry_name not in NOT_OF_THE_USER:
            if _is_folder(entry):
                _walk(entry.path, prefix + entry_name, entered, found)
            else:
                _add(entry, prefix + entry_name, found)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _add(entry: "os.DirEntry[str]", name: str, found: Found) -> None:
    suffix = name[name.rfind(".") :].lower()
    if suffix in FOREIGN_SUFFIXES:
        found.bad.append(BadFile(name, f"{suffix[1:].upper()} photos cannot be read: save it as JPEG or PNG"))
    if suffix not in SUFFIXES:
        return
    try:
        status = entry.stat()
    except OSError as error:
        found.bad.append(BadFile(name, _why_no_status(entry.path, error)))
        return
    if stat.S_ISREG(status.st_mode):
        found.images.append(ImageFile(name, entry.path, state_of(status)))
    else:
        found.bad.append(BadFile(name, "it is not a regular file"))


def _why_no_status(path: str, error: OSError) -> str:
    if os.path.islink(path):  # noqa: PTH114
        return f"this link leads nowhere ({os.strerror(error.errno or 0)})"
    return os.strerror(error.errno or 0)
