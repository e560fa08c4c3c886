"""A cache of processed arrays that processes may read and write concurrently."""

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
FINGERPRINT = "fingerprint"  # name of the entry that holds the fingerprint of a cache file

log = logging.getLogger(__name__)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for atomic writing: other processes see the complete new file or the old state.

    An exception in the body leaves ``path`` unchanged.

    Args:
        path: path of the file; missing parent folders are created.

    Raises:
        OSError: the folder cannot be created or written to, or it is marked read-only for all users.
    """
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.stat().st_mode & 0o222:  # root, as in a container, may write there all the same, but should not
        raise PermissionError(f"{nearest} is marked read-only")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, because only a rename within one file system is atomic. A name of its own, because several
    # processes may write the same file at once.
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def fingerprint(version: str, root: Path, files: Iterable[Path]) -> str:
    """Return a digest that changes with the processing and with the name, size or modification time of a source file.

    Args:
        version: identifies the processing; a new version invalidates every older cache.
        root: names are relative to this folder, so that it can be moved.
        files: the source files, in a fixed order.
    """
    digest = hashlib.sha256(version.encode())
    for file in files:
        status = file.stat()
        digest.update(f"\n{os.path.relpath(file, root)} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def cached_arrays(path: Path, fingerprint: str, build: Callable[[], Arrays]) -> Arrays:
    """Return the arrays cached in ``path``, or build and cache them.

    A cache that is missing, damaged or of another fingerprint is rebuilt. Processes that start together may each build
    it; all succeed. If the cache cannot be written, the arrays are built every time.

    Args:
        path: the cache file, ``.npz``.
        fingerprint: identifies everything the arrays were made from.
        build: returns the arrays by name; any name but ``"fingerprint"`` is allowed.
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
        # without pickle, a cache file from elsewhere cannot execute code
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            # read here and not lazily, so that damage to any array is found while the arrays can still be rebuilt
            arrays = {name: file[name] for name in file.files}
    except Exception:  # a damaged file makes NumPy raise nearly any error; it is rebuilt
        return None
    return arrays if str(arrays.pop(FINGERPRINT, "")) == fingerprint else None
