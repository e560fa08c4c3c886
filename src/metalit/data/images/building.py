"""Images are decoded once, in parallel, into one file that later runs read."""

import errno
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from metalit.data.images.listing import Entry, Place, Source
from metalit.data.images.reading import decode, quiet, reason, to_rgb
from metalit.data.images.resizing import Pixels, Resize
from metalit.data.loader import leave_signals_to_the_main_process
from metalit.errors import UserError

PIXELS, ENCODED, INDEX = "pixels.bin", "files.bin", "index.json"
AHEAD = 4  # jobs that wait for each process; more would only take memory
CHUNK = 64  # images in one message to a process
FEW = 256  # images for which no processes are started
Job = list[tuple[int, Place]]  # row and place of each image


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


class Outcome(NamedTuple):
    """What became of one image: its row, the digest of its content or why it is bad, and its bytes if they are kept."""

    row: int
    digest: bytes = b""
    reason: str = ""
    data: bytes = b""


@dataclass
class Built:
    """What a cache of images holds beside them.

    Attributes:
        bad: rows that are not in use, with the reason.
        offsets: ``[n + 1]``, where each file begins, if files are kept as they are.
    """

    bad: dict[int, str] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Decoder:
    """Decodes the images of jobs; in processes of their own, or in this one."""

    source: Source
    resize: Resize
    target: Path | None  # file for the pixels, images one after another; if None, files are kept as they are

    def __call__(self, job: Job) -> list[Outcome]:
        """Decode each image of a job and write it to its row."""
        buffer = np.empty((len(job), 3, self.resize.size, self.resize.size), dtype=np.uint8)
        with quiet():
            outcomes = [self.outcome(row, place, buffer[at]) for at, (row, place) in enumerate(job)]
        if self.target is not None:
            self.write([row for row, _ in job], buffer)
        return outcomes

    def outcome(self, row: int, place: Place, pixels: Pixels) -> Outcome:
        """Decode one image into ``pixels``; what is wrong with it is part of the outcome."""
        pixels[...] = 0  # a bad image is black
        try:
            found = self.source.fetch(place)
            data = b"" if isinstance(found, Image.Image) else found
            self.resize.into(pixels, _image(found, self.resize))
        except Exception as error:  # a damaged file makes Pillow raise nearly any exception
            return Outcome(row, reason=reason(error))
        digest = hashlib.blake2b(data or pixels.tobytes(), digest_size=16).digest()
        return Outcome(row, digest, data=data if self.target is None else b"")

    def write(self, rows: Sequence[int], images: Pixels) -> None:
        """Write images to their rows of the file, as few runs as possible."""
        assert self.target is not None
        ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        # written by position: pages of a mapped file would count as memory of this process
        with self.target.open("r+b", buffering=0) as file:
            for first, end in zip([0, *ends], ends, strict=False):
                run = images[first:end]
                if os.pwrite(file.fileno(), run.data, rows[first] * images[0].nbytes) != run.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.target))


def build(
    source: Source, entries: Sequence[Entry], resize: Resize, folder: Path, keep_files: bool, processes: int
) -> Built:
    """Decode all images into files in ``folder``, with a progress bar.

    Args:
        source: where the images are.
        entries: the images; entry i becomes row i.
        resize: how they become squares.
        folder: where the files go; it exists.
        keep_files: check the images, but keep the bytes of their files and not their pixels.
        processes: how many processes decode.

    Returns:
        The bad images: those that cannot be decoded, and those whose content is in two classes.
    """
    target = None if keep_files else folder / PIXELS
    if target is not None:
        with target.open("wb") as file:
            file.truncate(len(entries) * 3 * resize.size**2)
    built, kept, digests = Built(), _Kept(folder / ENCODED, len(entries), keep_files), _Digests(entries)
    with kept, written_early(target), tqdm(total=len(entries), unit="images", desc="Decoding", disable=None) as bar:
        for outcomes in _outcomes(Decoder(source, resize, target), _jobs(entries), processes):
            for outcome in outcomes:
                if outcome.reason:
                    built.bad[outcome.row] = outcome.reason
                else:
                    digests.add(outcome.row, outcome.digest)
                kept.add(outcome.row, outcome.data)
            bar.update(len(outcomes))
    built.bad |= digests.in_two_classes
    built.offsets = kept.offsets
    return built


def build_in_memory(source: Source, entries: Sequence[Entry], resize: Resize) -> tuple[Built, Pixels]:
    """Return all images as ``[n, 3, size, size]`` uint8, and the bad ones; bad images are black."""
    pixels = np.zeros((len(entries), 3, resize.size, resize.size), dtype=np.uint8)
    built, digests = Built(), _Digests(entries)
    with quiet():
        for row, entry in enumerate(tqdm(entries, unit="images", desc="Decoding", disable=None)):
            try:
                resize.into(pixels[row], _image(source.fetch(entry.place), resize))
                digests.add(row, hashlib.blake2b(pixels[row].tobytes(), digest_size=16).digest())
            except Exception as error:  # as above
                built.bad[row] = reason(error)
    built.bad |= digests.in_two_classes
    return built, pixels


def _image(found: bytes | Image.Image, resize: Resize) -> Image.Image:
    return to_rgb(found) if isinstance(found, Image.Image) else decode(found, resize.decoded)


@contextmanager
def written_early(path: Path | None, pause: float = 1.0) -> Iterator[None]:
    """Have a file written to disk while it is filled, so that at the end there is little left to wait for.

    Args:
        path: the file; None does nothing.
        pause: seconds between two times.
    """
    done = Event()

    def write() -> None:
        assert path is not None
        with path.open("rb") as file:
            while not done.wait(pause):
                os.fsync(file.fileno())

    thread = None if path is None else Thread(target=write, daemon=True)
    if thread is not None:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread is not None:
            thread.join()


class _Digests:
    """Which images have the same content in another class."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.first: dict[bytes, int] = {}
        self.in_two_classes: dict[int, str] = {}

    def add(self, row: int, digest: bytes) -> None:
        other = self.first.setdefault(digest, row)
        if self.entries[other].label != self.entries[row].label:
            # both are refused: either label may be the wrong one
            for one, two in ((row, other), (other, row)):
                name, label = self.entries[two].name, self.entries[two].label
                self.in_two_classes[one] = f"the same image is in class {label} too, as {name}"


class _Kept:
    """The files as they are, one after another in one file; nothing if they are not to be kept."""

    def __init__(self, path: Path, rows: int, keep: bool) -> None:
        self.path, self.keep, self.rows = path, keep, rows
        self.offsets: list[int] = []

    def __enter__(self) -> "_Kept":
        if self.keep:
            self.file = self.path.open("wb")
            self.waiting: dict[int, bytes] = {}
            self.offsets = [0]
        return self

    def __exit__(self, *error: object) -> None:
        if self.keep:
            self.file.close()

    def add(self, row: int, data: bytes) -> None:
        if not self.keep:
            return
        self.waiting[row] = data
        # in the order of the rows, although jobs end in any order
        while (next_row := len(self.offsets) - 1) in self.waiting:
            self.offsets.append(self.offsets[-1] + self.file.write(self.waiting.pop(next_row)))


def _jobs(entries: Sequence[Entry]) -> list[Job]:
    # by place: a tar or parquet file is read from its beginning to its end
    numbered = sorted(((row, entry.place) for row, entry in enumerate(entries)), key=lambda pair: pair[1])
    return [numbered[first : first + CHUNK] for first in range(0, len(numbered), CHUNK)]


def _outcomes(decoder: Decoder, jobs: list[Job], processes: int) -> Iterator[list[Outcome]]:
    if processes == 1 or sum(map(len, jobs)) <= FEW:
        yield from map(decoder, jobs)
        return
    pool = ProcessPoolExecutor(processes, initializer=leave_signals_to_the_main_process, initargs=(0,))
    try:
        waiting = deque(pool.submit(decoder, job) for job in jobs[: processes * AHEAD])
        for job in jobs[processes * AHEAD :]:
            yield waiting.popleft().result()
            waiting.append(pool.submit(decoder, job))
        yield from (future.result() for future in waiting)
    except BrokenProcessPool as error:
        raise UserError(
            "a process that decodes images was ended from outside, probably for want of memory: lower data.decoders"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
