"""ImageFolder: building the cache against a bare Pillow loop, starting again from it, and reading it by episodes.

    python benchmarks/image_cache.py                      # 100 000 images of 84x84, in the system's temporary folder
    python benchmarks/image_cache.py --images 20000 --folder /scratch

The images are drawn: noise that is as large as JPEG, and takes as long to decode, as photographs of that size; with
scikit-learn installed, the first lines say how well that holds. The bare loop opens every file, decodes it and converts
it to RGB, on as many processes; it keeps nothing. The bare disk takes the bytes of the cache by one process, until they
are flushed. The contenders take turns. "Starting again" lists the files, finds the cache and makes the stores of all
splits. The memory is that of a process of its own which has opened the cache by ``store: mmap`` and read as many images
as there are: what is resident then, and the most that was; beside it that of a process which only imports metalit.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from PIL import Image

from metalit.data import ImageFolder

SIZE, BATCH = 84, 8
FILES_IN_CHUNK = 64
QUALITY = 95
# amplitude falls as 1 / frequency^FALL; the four are such that bytes per file and decoding take what photographs take
FALL, MIDDLE, CONTRAST, COLOUR = 1.7, 120, 60, 0.3
FIELDS = 256  # of noise, from which all pictures are made
PHOTOGRAPHS = 200  # squares of each photograph
Arrays = npt.NDArray[np.float64]


def noise(rng: np.random.Generator, count: int) -> Arrays:
    """Return fields ``[count, SIZE, SIZE]`` of mean 0 and variance 1, with the spectrum of photographs."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))
    frequency[0, 0] = np.inf
    fields = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((count, SIZE, SIZE))) * frequency**-FALL, s=(SIZE, SIZE))
    return np.asarray(fields / fields.std(axis=(1, 2), keepdims=True))


def pictures(count: int, seed: int = 0) -> Iterator[Image.Image]:
    """Yield pictures that a JPEG decoder takes for photographs: noise of their spectrum, contrast and colour."""
    rng = np.random.default_rng(seed)
    fields = noise(rng, FIELDS)
    for _ in range(count):
        # a field repeats itself in both directions: shifted, it is another one, and much faster than a new one
        light, red, blue = (
            np.roll(fields[rng.integers(FIELDS)], rng.integers(0, SIZE, 2), axis=(0, 1)) for _ in range(3)
        )
        pixels = MIDDLE + CONTRAST * np.stack([light + COLOUR * red, light, light + COLOUR * blue], axis=-1)
        yield Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def photographs() -> list[Image.Image]:
    """Return squares of scikit-learn's two photographs, of random place and side, as large as the pictures."""
    from sklearn.datasets import load_sample_images

    rng, found = np.random.default_rng(0), []
    for each in map(Image.fromarray, load_sample_images().images):
        for _ in range(PHOTOGRAPHS):
            side = int(rng.uniform(0.5, 1) * min(each.size))
            left, top = (int(rng.integers(0, length - side + 1)) for length in each.size)
            found.append(each.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side)))
    return found


def encoded(image: Image.Image) -> bytes:
    """Return an image as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def write_images(root: Path, count: int, classes: int) -> None:
    """Write pictures as JPEG files into folders of classes."""
    for number in range(classes):
        (root / f"class{number:04}").mkdir()
    for number, image in enumerate(pictures(count)):
        (root / f"class{number % classes:04}" / f"{number:07}.jpg").write_bytes(encoded(image))


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


def bare_write(file: Path, images: int) -> float:
    """Return the seconds in which the disk takes as many bytes as the decoded images have."""
    block = np.random.default_rng(0).bytes(FILES_IN_CHUNK * 3 * SIZE**2)
    start = time.perf_counter()
    with file.open("wb", buffering=0) as target:
        for _ in range(images // FILES_IN_CHUNK):
            target.write(block)
        os.fsync(target.fileno())
    elapsed = time.perf_counter() - start
    file.unlink()
    return elapsed


def memory_of(task: str, root: Path) -> tuple[int, int]:
    """Return the resident and the most memory, in bytes, of a process that does ``read_all`` or nothing."""
    command = [sys.executable, __file__, "--memory", task, str(root)]
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(words[-2]), int(words[-1])


def report_memory(task: str, root: Path) -> None:
    """Do a task and print the resident and the most memory of this process, in bytes."""
    if task == "read":
        read_all(root)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(*(int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))


def read_all(root: Path) -> None:
    """Read as many images as there are, in episodes."""
    data = data_module(root, "mmap", 1)
    data.episodes("train")
    for first in range(0, len(data.stores["train"].items) // (5 * 16), BATCH):
        data.episodes("train", first, BATCH)


def spread(values: list[float], digits: int) -> str:
    """Return "median (min to max)"."""
    middle, low, high = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle:>9} ({low} to {high})"


def compare_pictures(rounds: int, say: Callable[[str], None]) -> None:
    """Print how large the drawn pictures are and how fast Pillow decodes them, and the same of photographs."""
    kinds = {"drawn": [encoded(image) for image in pictures(2 * PHOTOGRAPHS)]}
    if find_spec("sklearn"):
        kinds["photographs"] = [encoded(image) for image in photographs()]
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, files in kinds.items():
            begin = time.perf_counter()
            for file in files:
                with Image.open(io.BytesIO(file)) as image:
                    np.asarray(image.convert("RGB"))
            rates[name].append(len(files) / (time.perf_counter() - begin))
    for name, files in kinds.items():
        size = np.mean([len(file) for file in files])
        say(f"{f'{name}, {size:,.0f} bytes a file':34}{spread(rates[name], 0)} images/s decoded by 1 process")


def measure_cache(root: Path, images: int, rounds: int, processes: int, say: Callable[[str], None]) -> list[float]:
    """Measure building and starting again, print a table, and return the ratios of built to bare."""
    files = [os.fspath(file) for file in sorted(root.glob("*/*.jpg"))]
    bare, disk, built, again = [], [], [], []
    for _ in range(rounds):
        bare.append(bare_loop(files, processes))
        shutil.rmtree(root / "metalit-cache", ignore_errors=True)
        disk.append(bare_write(root / "bytes", images))
        built.append(start(root, "mmap", processes)[0])
        again.append(start(root, "mmap", processes)[0])
    in_memory = [start(root, "memory", processes)[0] for _ in range(rounds)]
    say(f"{'bare Pillow loop':34}{spread([images / each for each in bare], 0)} images/s")
    say(f"{'bare disk':34}{spread([images / each for each in disk], 0)} images/s")
    say(f"{'cache built':34}{spread([images / each for each in built], 0)} images/s")
    say(f"{'started again, mmap':34}{spread(again, 2)} s")
    say(f"{'started again, memory':34}{spread(in_memory, 2)} s")
    say(f"{'started again, mmap / built':34}{spread([a / b for a, b in zip(again, built, strict=True)], 4)}")
    return [one / other for one, other in zip(bare, built, strict=True)]


def measure_memory(root: Path, images: int, say: Callable[[str], None]) -> None:
    """Print the memory of reading all images, beside that of a process that reads none."""
    size = images * 3 * SIZE**2
    base, (resident, most) = memory_of("nothing", root)[0], memory_of("read", root)
    say(f"{'memory, mmap / the images':34}{resident / size:9.2f} (at most {most / size:.2f}) of {size / 1e6:,.0f} MB")
    say(f"{'  without what imports take':34}{(resident - base) / size:9.2f}, {(resident - base) / 1e6:,.0f} MB beside "
        f"the {base / 1e6:,.0f} MB of a process that has imported metalit")  # fmt: skip


def measure_episodes(root: Path, rounds: int, processes: int, seconds: float, say: Callable[[str], None]) -> None:
    """Print how many episodes come from the file and from memory."""
    mapped, memory = start(root, "mmap", processes)[1], start(root, "memory", processes)[1]
    rates: list[tuple[float, float]] = []
    for turn in range(-1, rounds):  # turn -1 warms up
        pair = episodes_per_second(mapped, seconds), episodes_per_second(memory, seconds)
        rates += [pair] if turn >= 0 else []
    say(f"{'episodes, mmap':34}{spread([one for one, _ in rates], 0)} episodes/s")
    say(f"{'episodes, memory':34}{spread([other for _, other in rates], 0)} episodes/s")
    say(f"{'episodes, mmap / memory':34}{spread([one / other for one, other in rates], 2)}")


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
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    if options.memory:
        report_memory(options.memory[0], Path(options.memory[1]))
        return
    images, classes, rounds, seconds = (
        (1000, 30, 2, 0.1) if options.quick else (options.images, options.classes, options.rounds, options.seconds)
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root, processes = Path(folder), options.processes
        say(f"{images:,} images of {SIZE}x{SIZE}, {processes} processes, {rounds} rounds; median (min to max)")
        compare_pictures(rounds, say)
        write_images(root, images, classes)
        ratios = measure_cache(root, images, rounds, processes, say)
        measure_memory(root, images, say)
        measure_episodes(root, rounds, processes, seconds, say)
        say(f"{'cache built / bare Pillow loop':34}{spread(ratios, 2)}")


if __name__ == "__main__":
    main()
