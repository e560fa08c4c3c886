"""ImageFolder: building the cache against a bare Pillow loop, starting again from it, and reading it by episodes.

    python benchmarks/image_cache.py                      # 100 000 images of 84x84, in the system's temporary folder
    python benchmarks/image_cache.py --images 20000 --folder /scratch

The bare loop opens every file, decodes it and converts it to RGB, on as many processes; it keeps nothing. The two take
turns. "Starting again" lists the files, finds the cache and makes the stores of all splits. The memory is that of a
process of its own, Python and torch included, which has opened the cache by ``store: mmap`` and read as many images as
there are: what is resident then, and the most that was.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from metalit.data import ImageFolder

SIZE, BATCH = 84, 8
FILES_IN_CHUNK = 64


def write_images(root: Path, first: int, last: int, classes: int) -> None:
    """Write the JPEG files number ``first`` to ``last``: smooth noise, different in each."""
    rng = np.random.default_rng(first)
    for number in range(first, last):
        folder = root / f"class{number % classes:04}"
        folder.mkdir(exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        noise.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / f"{number:07}.jpg", quality=90)


def decode(files: list[str]) -> int:
    """Decode some files and forget them."""
    for file in files:
        with Image.open(file) as image:
            np.asarray(image.convert("RGB"))
    return len(files)


def bare_loop(files: list[str], processes: int) -> float:
    """Return the seconds in which Pillow alone decodes all files."""
    chunks = [files[first : first + FILES_IN_CHUNK] for first in range(0, len(files), FILES_IN_CHUNK)]
    start = time.perf_counter()
    with ProcessPoolExecutor(processes) as pool:
        assert sum(pool.map(decode, chunks)) == len(files)
    return time.perf_counter() - start


def data_module(root: Path, store: str, processes: int) -> ImageFolder:
    """Return the images as a data set."""
    return ImageFolder(size=SIZE, root=str(root), store=store, decoders=processes, shots=1, queries=15)  # type: ignore[arg-type]


def start(root: Path, store: str, processes: int) -> tuple[float, ImageFolder]:
    """Return the seconds until all stores are there, and the data set."""
    begin = time.perf_counter()
    data = data_module(root, store, processes)
    for split in ("train", "val", "test"):
        data.stores[split] = data.load(split)
    return time.perf_counter() - begin, data


def episodes_per_second(data: ImageFolder, seconds: float) -> float:
    """Take training episodes for so long and return how many came per second."""
    begin, made, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds:
        made += len(data.episodes("train", made, BATCH).support.y)
        elapsed = time.perf_counter() - begin
    return made / elapsed


def memory_of_reading(root: Path) -> tuple[int, int]:
    """Return the resident and the most memory, in bytes, of a process that reads the images by ``store: mmap``."""
    command = [sys.executable, __file__, "--read", str(root)]
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(words[-2]), int(words[-1])


def read_all(root: Path) -> None:
    """Read as many images as there are, in episodes, and print the resident and the most memory in bytes."""
    data = data_module(root, "mmap", 1)
    data.episodes("train")
    for first in range(0, len(data.stores["train"].items) // (5 * 16), BATCH):
        data.episodes("train", first, BATCH)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(*(int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))


def spread(values: list[float], digits: int) -> str:
    """Return "median (min to max)"."""
    middle, low, high = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle:>9} ({low} to {high})"


def measure(root: Path, images: int, rounds: int, processes: int, seconds: float, say: Callable[[str], None]) -> None:
    """Measure and print a table."""
    files = [os.fspath(file) for file in sorted(root.glob("*/*.jpg"))]
    bare, built, again = [], [], []
    for _ in range(rounds):
        bare.append(bare_loop(files, processes))
        shutil.rmtree(root / "metalit-cache", ignore_errors=True)
        built.append(start(root, "mmap", processes)[0])
        again.append(start(root, "mmap", processes)[0])
    in_memory = [start(root, "memory", processes)[0] for _ in range(rounds)]
    size = images * 3 * SIZE**2
    say(f"{images:,} images of {SIZE}x{SIZE}, {processes} processes, {rounds} rounds; median (min to max)")
    say(f"{'bare Pillow loop':34}{spread([images / each for each in bare], 0)} images/s")
    say(f"{'cache built':34}{spread([images / each for each in built], 0)} images/s")
    say(f"{'started again, mmap':34}{spread(again, 2)} s")
    say(f"{'started again, memory':34}{spread(in_memory, 2)} s")
    say(f"{'started again, mmap / built':34}{spread([a / b for a, b in zip(again, built, strict=True)], 4)}")
    resident, most = memory_of_reading(root)
    say(f"{'memory, mmap / the images':34}{resident / size:9.2f} (at most {most / size:.2f}) of {size / 1e6:,.0f} MB")
    mapped, memory = start(root, "mmap", processes)[1], start(root, "memory", processes)[1]
    rates: list[tuple[float, float]] = []
    for turn in range(-1, rounds):  # turn -1 warms up
        pair = episodes_per_second(mapped, seconds), episodes_per_second(memory, seconds)
        rates += [pair] if turn >= 0 else []
    say(f"{'episodes, mmap':34}{spread([one for one, _ in rates], 0)} episodes/s")
    say(f"{'episodes, memory':34}{spread([other for _, other in rates], 0)} episodes/s")
    say(f"{'episodes, mmap / memory':34}{spread([one / other for one, other in rates], 2)}")
    say(f"{'cache built / bare Pillow loop':34}{spread([b / c for b, c in zip(bare, built, strict=True)], 2)}")


def main(args: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Write images, measure, and remove them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000, help="how many images")
    parser.add_argument("--classes", type=int, default=100, help="how many classes")
    parser.add_argument("--folder", default=None, help="where to write them; removed at the end")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn of episodes")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="processes that decode")
    parser.add_argument("--quick", action="store_true", help="few images, two short rounds: does it run?")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    if options.read:
        read_all(Path(options.read))
        return
    images, classes, rounds, seconds = (
        (1000, 30, 2, 0.1) if options.quick else (options.images, options.classes, options.rounds, options.seconds)
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_images(Path(folder), 0, images, classes)
        measure(Path(folder), images, rounds, options.processes, seconds, say)


if __name__ == "__main__":
    main()
