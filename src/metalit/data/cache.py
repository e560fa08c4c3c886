"""A cache of processed arrays that any number of processes may read and write at once."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
FINGERPRINT = "fingerprint"  # the name under which a cache file holds its own fingerprint

log = logging.getLogger(__name__)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that others see whole or not at all; an exception inside leaves no file.

    Args:
        path: where the file is to be; its folder is made if need be.

    Raises:
        OSError: the folder cannot be made or written to, or is marked read-only for everybody.
    """
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.stat().st_mode & 0o222:  # the administrator of a container may write there, but should not
        raise PermissionError(f"{nearest} is marked read-only")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def fingerprint(version: str, root: Path, files: Iterable[Path]) -> str:
    """Return a digest that changes with the processing and with the name, size or date of any source file.

    Args:
        version: names the processing; a new one makes every older cache worthless.
        root: names count relative to this folder, so that it can be moved.
        files: the source files, in a fixed order.
    """
    digest = hashlib.sha256(version.encode())
    for file in files:
        status = file.stat()
        digest.update(f"\n{os.path.relpath(file, root)} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def cached_arrays(path: Path, fingerprint: str, build: Callable[[], Arrays]) -> Arrays:
    """Return the arrays in ``path``, or build them and leave them there for the next time.

    A cache that is absent, damaged or of another fingerprint is built anew. Processes that start together may
    each build it; all succeed. Where nothing can be written the arrays are built every time.

    Args:
        path: the cache file, ``.npz``.
        fingerprint: stands for everything the arrays were made from.
        build: makes the arrays; their names are any but ``"fingerprint"``.
    """
    arrays = _read(path, fingerprint)
    if arrays is None:
        arrays = build()
        try:
            with atomic_write(path) as file:
                np.savez(file, allow_pickle=False, **{FINGERPRINT: np.array(fingerprint)}, **arrays)
        except OSError as error:
            log.info("%s cannot be written (%s): the data are processed again the next time", path, error)
    return arrays


def _read(path: Path, fingerprint: str) -> Arrays | None:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception:  # a damaged file can make NumPy raise nearly anything, and is simply built anew
        return None
    return arrays if str(arrays.pop(FINGERPRINT, "")) == fingerprint else None
