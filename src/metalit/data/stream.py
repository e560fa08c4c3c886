"""Streams of episodes. Episode i is a pure function of (seed, split, i).

There is no sampler state and no dependence on workers, ranks or history. Random words come from NumPy's Philox4x64
(Salmon et al. 2011), a counter-based generator: its key is (seed, split) and episode i owns the i-th block of its
counter, so any range of episodes is one call.
"""

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metalit.episode import Episode, Labelled
from metalit.errors import SettingError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")  # the order is part of the generator's key
Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
WORDS_PER_COUNT = 4  # Philox4x64 returns four 64-bit words for each value of its counter


class EpisodeStream(Protocol):
    """A callable that returns the episodes ``first .. first+count-1`` of one split, the same at every call."""

    def __call__(self, first: int, count: int) -> Episode:
        """Return the episodes as one meta-batch of ``count`` tasks, with their numbers in the stream as ``index``."""
        ...


def numbers(first: int, count: int) -> Tensor:
    """Return ``first .. first+count-1`` as the ``index`` of a meta-batch, ``[count]`` int64."""
    return torch.arange(first, first + count)


def random_words(seed: int, split: Split, first: int, count: int, width: int) -> Words:
    """Draw ``width`` random words for each of the episodes ``first .. first+count-1``.

    Args:
        seed: the stream's seed, in [0, 2^64).
        split: the split; each has a stream of its own.
        first: index of the first episode, >= 0.
        count: number of episodes.
        width: number of 64-bit words per episode.

    Returns:
        ``[count, width]`` uint64; row j depends on ``(seed, split, first + j)`` alone.
    """
    # an episode takes whole values of the counter, so that its words start at a fixed place
    blocks = -(-width // WORDS_PER_COUNT)
    key = np.array([seed, SPLITS.index(split)], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=first * blocks)
    words = generator.random_raw(count * blocks * WORDS_PER_COUNT)
    return words.reshape(count, blocks * WORDS_PER_COUNT)[:, :width]


def uniform(words: Words, low: float = 0.0, high: float = 1.0) -> npt.NDArray[np.float64]:
    """Convert random words to uniform numbers in [low, high), with 53 random bits each."""
    # the upper 53 bits, which a float64 holds exactly; all 64 could round up to 1
    unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return low + (high - low) * unit


def distinct(words: Words, population: Integers) -> Integers:
    """Choose k distinct integers below ``population`` by Floyd's algorithm, for all rows at once.

    Args:
        words: ``[..., 2k]`` random words, k to choose the integers and k to order them.
        population: ``[...]`` int64, the number of integers to choose from, each >= k.

    Returns:
        ``[..., k]`` int64; every ordered selection of k out of ``population`` is equally likely.
    """
    # Floyd's algorithm takes k steps for any population; a shuffle would take one word for each member of it.
    k = words.shape[-1] // 2
    unit = uniform(words[..., :k])
    chosen = np.empty(unit.shape, dtype=np.int64)
    for j in range(k):
        last = population - k + j
        candidate = (unit[..., j] * (last + 1)).astype(np.int64)
        taken = (chosen[..., :j] == candidate[..., None]).any(axis=-1)
        chosen[..., j] = np.where(taken, last, candidate)
    # Floyd's set is uniform, but its order is not. A random order makes the labels of an episode exchangeable.
    order = np.argsort(words[..., k:], axis=-1)
    return np.take_along_axis(chosen, order, axis=-1)


class ClassificationStream:
    """N-way K-shot episodes over a class-indexed store, as *row indices* of that store.

    The ``x`` of an episode holds row indices (int64) for ``ClassStore.take``. Support and query are separated here and
    nowhere else, so they cannot overlap.

    Args:
        class_sizes: ``[classes]`` number of examples of each class; the store holds them sorted by class.
        split: the split, which selects the random stream.
        seed: the stream's seed.
        ways: N, classes in an episode.
        shots: K, support examples per class.
        queries: query examples per class.
        global_labels: use global class labels (the index of the class in the split) instead of 0..N-1.

    Raises:
        SettingError: fewer classes than ways, or a class with fewer than shots + queries examples.
    """

    def __init__(
        self,
        class_sizes: Integers,
        *,
        split: Split,
        seed: int,
        ways: int,
        shots: int,
        queries: int,
        global_labels: bool = False,
    ) -> None:
        classes, smallest = len(class_sizes), int(class_sizes.min(initial=np.iinfo(np.int64).max))
        if ways > classes:
            raise SettingError("ways", ways, f"at most {classes}, the classes of the {split} split")
        if shots + queries > smallest:
            # blame the shots only if they alone leave no example for a query
            name, value = ("shots", shots) if shots >= smallest else ("queries", queries)
            raise SettingError(
                name,
                value,
                f"shots + queries of at most {smallest}, not {shots + queries}, for class number "
                f"{int(class_sizes.argmin())} of the {split} split has only {smallest} examples: lower one, or "
                "leave that class out",
            )
        self.class_sizes = class_sizes
        self.starts = np.cumsum(class_sizes) - class_sizes  # first row of each class in the store
        self.split, self.seed = split, seed
        self.ways, self.shots, self.queries = ways, shots, queries
        self.global_labels = global_labels

    def __call__(self, first: int, count: int) -> Episode:
        """Return episodes ``first .. first+count-1``; support ``[count, N*K]``, query ``[count, N*queries]``."""
        ways, each = self.ways, self.shots + self.queries
        words = self._words(first, count)
        classes = self._classes(words)
        # shots and queries of a class are one draw of distinct examples, of which the first are the shots
        example_words = words[:, 2 * ways :].reshape(count, ways, 2 * each)
        examples = self.starts[classes][..., None] + distinct(example_words, self.class_sizes[classes])
        labels = classes if self.global_labels else np.arange(ways)
        labels = np.broadcast_to(labels[..., None], (count, ways, each))

        def part(where: slice) -> Labelled:
            # copies: support and query share no memory, so an in-place change of one cannot reach the other
            x, y = (np.array(a[..., where]).reshape(count, -1) for a in (examples, labels))
            return Labelled(torch.from_numpy(x), torch.from_numpy(y))

        return Episode(part(slice(0, self.shots)), part(slice(self.shots, each)), numbers(first, count))

    def classes(self, index: int) -> Integers:
        """Return the classes of the split behind the labels 0..N-1 of an episode, ``[N]``."""
        classes: Integers = self._classes(self._words(index, 1))[0]
        return classes

    def _words(self, first: int, count: int) -> Words:
        # two words per choice, see ``distinct``: of each class, and of each of its examples
        width = 2 * self.ways * (1 + self.shots + self.queries)
        return random_words(self.seed, self.split, first, count, width)

    def _classes(self, words: Words) -> Integers:
        return distinct(words[:, : 2 * self.ways], np.full(len(words), len(self.class_sizes)))
