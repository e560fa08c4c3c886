"""Episodes per second: metalit's stream and gather against learn2learn's tasksets, over the same images in memory.

    python benchmarks/stream_throughput.py                                    # glyphs: nothing to download
    python benchmarks/stream_throughput.py --data omniglot --root data

5-way 1-shot 15-query episodes of float images in [0, 1], in batches of 32. All contenders run in one process and take
turns, so that they share whatever else the machine is doing; a ratio compares the two rates of one round. Both sides
read one store of uint8 images; "at its fastest" spares learn2learn the conversion to floats, by a store of floats, and
uses its fused transform. Neither time of learn2learn has to split support from query or to stack tasks into a batch.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import count
from statistics import median
from typing import Any

import torch

from metalit.data import ClassificationDataModule, ClassStore
from metalit.data.glyphs import Glyphs
from metalit.data.learn2learn import as_learn2learn_dataset
from metalit.data.omniglot import Omniglot
from metalit.functional.examples import to_unit_interval
from metalit.learn2learn_compat import import_learn2learn

WAYS, SHOTS, QUERIES, BATCH = 5, 1, 15, 32
METALIT = "metalit"
CLASSES_OF_OMNIGLOT = 4112  # training characters in four rotations; a taskset's cost grows with the number of classes


def data_module(name: str, root: str, quick: bool) -> ClassificationDataModule:
    """Return the data set that both sides read."""
    setting: dict[str, Any] = {"root": root, "ways": WAYS, "shots": SHOTS, "queries": QUERIES}
    if name == "omniglot":
        return Omniglot(**setting)
    return Glyphs(classes=50 if quick else CLASSES_OF_OMNIGLOT, **setting)


def metalit_batches(data: ClassificationDataModule) -> Iterator[int]:
    """Make meta-batches for ever, yielding how many episodes each has."""
    for batch in count():
        yield len(data.episodes("train", batch * BATCH, BATCH).support.y)


def taskset(store: ClassStore, fused: bool) -> Any:
    """Return learn2learn's source of tasks over a store's images."""
    data = import_learn2learn("data")
    images = as_learn2learn_dataset(store)
    dataset = data.MetaDataset(images, images.labels_to_indices, images.indices_to_labels)
    make, each = data.transforms, SHOTS + QUERIES
    if fused:
        choose = [make.FusedNWaysKShots(dataset, WAYS, each)]
    else:
        choose = [make.NWays(dataset, WAYS), make.KShots(dataset, each)]
    return data.Taskset(dataset, [*choose, make.LoadData(dataset), make.RemapLabels(dataset)])


def learn2learn_tasks(tasks: Any) -> Iterator[int]:
    """Make tasks for ever, one at a time."""
    while True:
        tasks.sample()
        yield 1


def contenders(data: ClassificationDataModule) -> dict[str, Iterator[int]]:
    """Return everybody who makes episodes, by name; metalit first."""
    store = data.stores["train"]
    floats = ClassStore(to_unit_interval(store.items), store.class_sizes, store.class_names)
    return {
        METALIT: metalit_batches(data),
        "learn2learn": learn2learn_tasks(taskset(store, fused=False)),
        "learn2learn at its fastest": learn2learn_tasks(taskset(floats, fused=True)),
    }


def rate(episodes: Iterator[int], seconds: float) -> float:
    """Take episodes for at least so long and return how many came per second."""
    start = time.perf_counter()
    made, elapsed = 0, 0.0
    while elapsed < seconds:
        made += next(episodes)
        elapsed = time.perf_counter() - start
    return made / elapsed


def spread(values: list[float], digits: int) -> str:
    """Return "median (min to max)"."""
    middle, low, high = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle:>9} ({low} to {high})"


def main(args: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", choices=("glyphs", "omniglot"), default="glyphs", help="what the images are")
    parser.add_argument("--root", default="data", help="folder of Omniglot's files")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--quick", action="store_true", help="two short rounds over few classes: does it run?")
    options = parser.parse_args(args)
    rounds, seconds = (2, 0.1) if options.quick else (options.rounds, options.seconds)
    torch.set_num_threads(options.threads)

    data = data_module(options.data, options.root, options.quick)
    data.episodes("train")
    rates: dict[str, list[float]] = {}
    everybody = contenders(data)
    for turn in range(-1, rounds):  # turn -1 warms up
        for name, episodes in everybody.items():
            measured = rate(episodes, seconds)
            if turn >= 0:
                rates.setdefault(name, []).append(measured)

    classes = len(data.stores["train"].class_sizes)
    say(
        f"{WAYS}-way {SHOTS}-shot {QUERIES}-query episodes from {classes} classes of {options.data}, "
        f"{options.threads} thread(s), {rounds} rounds of {seconds} s; median (min to max)"
    )
    for name, values in rates.items():
        say(f"{name:38}{spread(values, 0)} episodes/s")
    for name in list(rates)[1:]:
        ratios = [ours / theirs for ours, theirs in zip(rates[METALIT], rates[name], strict=True)]
        say(f"{'metalit / ' + name:38}{spread(ratios, 1)}")


if __name__ == "__main__":
    main()
