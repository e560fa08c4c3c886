"""Episodes per second: metalit's stream and gather against learn2learn's tasksets, over the same images in memory.

5-way 1-shot 15-query episodes of float images in [0, 1], in batches of 32. Both read one store of uint8 images; "at
its fastest" spares learn2learn the conversion to floats, by a store of floats, and uses its fused transform. Neither
time of learn2learn has to split support from query or to stack tasks into a batch.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import count
from typing import Any

from metalit.data import ClassificationDataModule, ClassStore
from metalit.data.glyphs import Glyphs
from metalit.data.learn2learn import as_learn2learn_dataset
from metalit.functional.examples import to_unit_interval
from metalit.learn2learn_compat import import_learn2learn

from .race import CLOCKS, Case, Contender, Prepared, Setting

WAYS, SHOTS, QUERIES, BATCH = 5, 1, 15, 32
CLASSES = 4112  # Omniglot's training characters in four rotations; a taskset's cost grows with the number of classes
SECONDS, SHORT = 1.0, 0.05  # of a turn


@cache
def data_module(classes: int) -> ClassificationDataModule:
    """Return the data set that both sides read."""
    data = Glyphs(classes=classes, ways=WAYS, shots=SHOTS, queries=QUERIES)
    data.episodes("train")
    return data


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


def learn2learn_tasks(data: ClassificationDataModule, fused: bool) -> Iterator[int]:
    """Make tasks for ever, one at a time."""
    store = data.stores["train"]
    if fused:
        store = ClassStore(to_unit_interval(store.items), store.class_sizes, store.class_names)
    tasks = taskset(store, fused)
    while True:
        tasks.sample()
        yield 1


def streaming(make: Callable[[ClassificationDataModule], Iterator[int]]) -> Callable[[Setting], Prepared]:
    """Return what prepares a contender whose turn is a second of episodes."""

    def prepare(setting: Setting) -> Prepared:
        episodes = make(data_module(50 if setting.smoke else CLASSES))
        next(episodes)
        now, seconds = CLOCKS[setting.clock], SHORT if setting.smoke else SECONDS

        def turn() -> float:
            start = now()
            made, elapsed = 0, 0.0
            while elapsed < seconds:
                made += next(episodes)
                elapsed = now() - start
            return elapsed / made

        return Prepared(turn)

    return prepare


def cases() -> list[Case]:
    """Return the one race."""
    contenders = [
        Contender("metalit", streaming(metalit_batches)),
        Contender("learn2learn", streaming(partial(learn2learn_tasks, fused=False)), optional=True),
        Contender("learn2learn at its fastest", streaming(partial(learn2learn_tasks, fused=True)), optional=True),
    ]
    return [Case("stream/glyphs", "stream", contenders, unit="episode")]
