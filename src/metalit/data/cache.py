"""A cache of processed arrays, or a folder of files, that processes may read and write concurrently."""

import hashlib
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from metalit.files import atomic_write, flush_to_disk, make_parents

Arrays = dict[str, npt.NDArray[Any]]
FINGERPRINT = "fingerprint"  # name of the entry that holds the fingerprint of a cache file

log = logging.getLogger(__name__)


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


@contextmanager
def atomic_folder(path: Path, is_whole: Callable[[], bool]) -> Iterator[Path]:
    """Make a folder that appears at ``path`` when its files are complete and on disk.

    Processes may do so at once: the first folder stays. An exception in the body leaves nothing behind, nor does a
    body that removes the folder itself. A process that is killed leaves its unfinished folder, which the next one on
    the same machine removes.

    Args:
        path: where the folder appears; missing parent folders are created.
        is_whole: whether what lies at ``path`` can be used; if not, it is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    make_parents(path)
    # beside its place, because only a rename within one file system is atomic
    temporary = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{uuid4().hex}")
    _remove_unfinished(path.parent)
    temporary.mkdir()
    try:
        yield temporary
        if temporary.exists() and not is_whole():
            for each in temporary.iterdir():
                with each.open("rb") as file:
                    flush_to_disk(file)
            _move(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_unfinished(parent: Path) -> None:
    """Remove the unfinished folders of processes that have ended."""
    for folder in parent.glob(f".*.{_machine()}-*-*"):
        try:
            os.kill(int(folder.name.split("-")[-2]), 0)  # signal 0 only asks whether the process is there
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError):  # another user's process; not one of these folders
            continue


@cache
def _machine() -> str:
    """Return what tells the process numbers of this machine, or of this container, from those of others."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:  # not Linux
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:12]


def _move(folder: Path, path: Path) -> None:
    try:
        folder.rename(path)
    except OSError:  # a damaged folder is there
        old = folder.with_name(f"{folder.name}.old")
        path.rename(old)
        folder.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _read(path: Path, fingerprint: str) -> Arrays | None:
    try:
        # without pickle, a cache file from elsewhere cannot execute code
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            # read here and not lazily, so that damage to any array is found while the arrays can still be rebuilt
            arrays = {name: file[name] for name in file.files}
    except Exception:  # a damaged file makes NumPy raise nearly any error; it is rebuilt
        return None
    return arrays if str(arrays.pop(FINGERPRINT, "")) == fingerprint else None
