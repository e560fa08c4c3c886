"""Files that are whole however a process ends, and older files that a new one does not overwrite."""

import csv
import errno
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for atomic writing: readers see the complete new file or the old state, even after a power cut.

    An exception in the body leaves ``path`` unchanged, unless the body itself moves it away; it should do so after
    ``flush_to_disk`` only.

    Args:
        path: path of the file; missing parent folders are created.

    Raises:
        OSError: the file cannot be written, or its folder is marked read-only for all users.
    """
    make_parents(path)
    # Beside its place, because only a rename within one file system is atomic. A name of its own, because several
    # processes may write the same file at once.
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
            flush_to_disk(file)
        temporary.replace(path)
        _flush_folder(path.parent)
    finally:
        _remove_if_possible(temporary)


def make_parents(path: Path) -> None:
    """Create the missing parent folders of a path.

    Raises:
        OSError: they cannot be created, or the folder to write to is marked read-only for all users.
    """
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.stat().st_mode & 0o222:  # root, as in a container, may write there all the same, but should not
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))
    path.parent.mkdir(parents=True, exist_ok=True)


def flush_to_disk(file: BinaryIO) -> None:
    """Wait until the content of an open file is on disk."""
    file.flush()
    os.fsync(file.fileno())  # else a power cut after the rename could leave an empty file under the final name


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, the header first, as CSV, atomically."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_text(path, text.getvalue())


def keep_old(*paths: Path) -> None:
    """Rename existing files, all with the same number (``results-1.json``), so that new files do not overwrite them."""
    number = 1
    while any(path.with_stem(f"{path.stem}-{number}").exists() for path in paths):
        number += 1
    for path in paths:
        if path.exists():
            path.rename(path.with_stem(f"{path.stem}-{number}"))


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)  # POSIX: a rename is durable once the folder itself is flushed
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_possible(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the error that led here says more than this one would
        return
