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
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from metalit.data.images.listing import Listing, Place, Source
from metalit.data.images.reading import decode, quiet, reason, to_rgb
from metalit.data.images.resizing import Pixels, Resize
from metalit.data.loader import leave_signals_to_the_main_process
from metalit.errors import UserError

PIXELS, ENCODED, INDEX = "pixels.bin", "files.bin", "index.json"
AHEAD = 4  # jobs that wait for each process; more would only take memory
CHUNK = 128  # images in one message to a process
RUN = 16  # images that are decoded before they are written: few enough to be in the processor's cache still
FEW = 256  # images for which no processes are started
DIGEST = 16  # bytes
Digests = npt.NDArray[np.uint64]  # [n, 2]

_decoder: "Decoder | None" = None  # of a process that decodes


class Job(NamedTuple):
    """Images to be decoded: their rows, and where they are."""

    rows: Sequence[int]
    places: Sequence[Place]


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


@dataclass
class Outcome:
    """What became of the images of a job.

    Attributes:
        digests: of their contents, one after another; zeros for a bad image.
        bad: rows of bad images, with the reason.
        data: their contents, if those are to be kept.
    """

    digests: bytearray = field(default_factory=bytearray)
    bad: dict[int, str] = field(default_factory=dict)
    data: list[bytes] = field(default_factory=list)


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

    def __call__(self, job: Job) -> Outcome:
        """Decode each image of a job and write it to its row."""
        outcome = Outcome()
        buffer = np.empty((RUN, 3, self.resize.size, self.resize.size), dtype=np.uint8)
        with quiet():
            for first in range(0, len(job.rows), RUN):
                rows = job.rows[first : first + RUN]
                for row, place, pixels in zip(rows, job.places[first : first + RUN], buffer, strict=False):
                    self.decode(row, place, pixels, outcome)
                if self.target is not None:
                    self.write(rows, buffer[: len(rows)])
        return outcome

    def decode(self, row: int, place: Place, pixels: Pixels, outcome: Outcome) -> None:
        """Decode one image into ``pixels``; what is wrong with it is part of the outcome."""
        try:
            found = self.source.fetch(place)
            data = b"" if isinstance(found, Image.Image) else found
            self.resize.into(pixels, _image(found, self.resize))
            digest = _digest(data or pixels.tobytes())
        except Exception as error:  # a damaged file makes Pillow raise nearly any exception
            outcome.bad[row], digest, data = reason(error), bytes(DIGEST), b""
            pixels[...] = 0  # a bad image is black
        outcome.digests += digest
        if self.target is None:
            outcome.data.append(data)

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


def build(source: Source, listing: Listing, resize: Resize, folder: Path, keep_files: bool, processes: int) -> Built:
    """Decode all images into files in ``folder``, with a progress bar.

    Args:
        source: where the images are.
        listing: the images; image i becomes row i.
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
            file.truncate(len(listing) * 3 * resize.size**2)
    built, kept, digests = Built(), _Kept(folder / ENCODED, keep_files), _no_digests(listing)
    with kept, written_early(target), tqdm(total=len(listing), unit="images", desc="Decoding", disable=None) as bar:
        for job, outcome in _outcomes(Decoder(source, resize, target), _jobs(listing.places), processes):
            built.bad |= outcome.bad
            digests[job.rows] = np.frombuffer(outcome.digests, np.uint64).reshape(-1, 2)
            kept.add(job.rows, outcome.data)
            bar.update(len(job.rows))
    built.bad |= in_two_classes(listing, digests)
    built.offsets = kept.offsets
    return built


def build_in_memory(source: Source, listing: Listing, resize: Resize) -> tuple[Built, Pixels]:
    """Return all images as ``[n, 3, size, size]`` uint8, and the bad ones; bad images are black."""
    pixels = np.zeros((len(listing), 3, resize.size, resize.size), dtype=np.uint8)
    built, digests = Built(), _no_digests(listing)
    with quiet():
        for row, place in enumerate(tqdm(listing.places, unit="images", desc="Decoding", disable=None)):
            try:
                resize.into(pixels[row], _image(source.fetch(place), resize))
                digests[row] = np.frombuffer(_digest(pixels[row].tobytes()), np.uint64)
            except Exception as error:  # as above
                built.bad[row] = reason(error)
    built.bad |= in_two_classes(listing, digests)
    return built, pixels


def in_two_classes(listing: Listing, digests: Digests) -> dict[int, str]:
    """Return the images that are in another class too, with the reason; both: either label may be the wrong one.

    Args:
        listing: the images.
        digests: ``[n, 2]``, of their contents; zeros for one that is not compared.
    """
    order = np.lexsort(digests.T)  # stable: images of one content stay in the order of their rows
    same = (np.diff(digests[order], axis=0) == 0).all(axis=1) & (digests[order[1:]] != 0).any(axis=1)
    found: dict[int, str] = {}
    first = 0
    for at in np.flatnonzero(same).tolist():
        if at == 0 or not same[at - 1]:
            first = int(order[at])
        other = int(order[at + 1])
        if listing.labels[first] != listing.labels[other]:
            for one, two in ((first, other), (other, first)):
                found[one] = f"the same image is in class {listing.label(two)} too, as {listing.names[two]}"
    return found


def _no_digests(listing: Listing) -> Digests:
    return np.zeros((len(listing), 2), dtype=np.uint64)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST).digest()


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


class _Kept:
    """The files as they are, one after another in one file; nothing if they are not to be kept."""

    def __init__(self, path: Path, keep: bool) -> None:
        self.path, self.keep = path, keep
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

    def add(self, rows: Sequence[int], contents: Sequence[bytes]) -> None:
        if not self.keep:
            return
        self.waiting.update(zip(rows, contents, strict=True))
        # in the order of the rows, although they are decoded in that of their places
        while (next_row := len(self.offsets) - 1) in self.waiting:
            self.offsets.append(self.offsets[-1] + self.file.write(self.waiting.pop(next_row)))


def _jobs(places: Sequence[Place]) -> list[Job]:
    # by place: a tar or parquet file is read from its beginning to its end
    every = list(places)
    rows = sorted(range(len(every)), key=every.__getitem__)
    chunks = (rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK))
    return [Job(chunk, [every[row] for row in chunk]) for chunk in chunks]


def _outcomes(decoder: Decoder, jobs: list[Job], processes: int) -> Iterator[tuple[Job, Outcome]]:
    if processes == 1 or sum(len(job.rows) for job in jobs) <= FEW:
        yield from ((job, decoder(job)) for job in jobs)
        return
    pool = ProcessPoolExecutor(processes, initializer=_begin, initargs=(decoder,))
    try:
        waiting = deque((job, pool.submit(_decode, job)) for job in jobs[: processes * AHEAD])
        for job in jobs[processes * AHEAD :]:
            done, future = waiting.popleft()
            yield done, future.result()
            waiting.append((job, pool.submit(_decode, job)))
        yield from ((job, future.result()) for job, future in waiting)
    except BrokenProcessPool as error:
        raise UserError(
            "a process that decodes images was ended from outside, probably for want of memory: lower data.decoders"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(decoder: Decoder) -> None:
    global _decoder  # sent once: a source may hold the places of all its images
    leave_signals_to_the_main_process(0)
    _decoder = decoder


def _decode(job: Job) -> Outcome:
    assert _decoder is not None
    return _decoder(job)
