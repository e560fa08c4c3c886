"""Episode i is a pure function of (seed, split, i): no sampler state, no dependence on workers, ranks or history.

Random words come from NumPy's Philox4x64 (Salmon et al. 2011), a counter-based generator: its key is
(seed, split) and episode i owns the i-th block of its counter, so any range of episodes is one call.
"""

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metalit.episode import Episode, Labelled
from metalit.errors import SettingError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
WORDS_PER_COUNT = 4  # Philox4x64 gives four 64-bit words for each value of its counter


class EpisodeStream(Protocol):
    """Anything that makes episodes ``first .. first+count-1`` of one split, always the same ones."""

    def __call__(self, first: int, count: int) -> Episode:
        """Return the episodes as one meta-batch of ``count`` tasks, with their numbers as its ``index``."""
        ...


def numbers(first: int, count: int) -> Tensor:
    """Return ``first .. first+count-1`` as the ``index`` of a meta-batch, ``[count]`` int64."""
    return torch.arange(first, first + count)


def random_words(seed: int, split: Split, first: int, count: int, width: int) -> Words:
    """Draw ``width`` random words for each of the episodes ``first .. first+count-1``.

    Args:
        seed: the stream's seed, in [0, 2^64).
        split: each split has a stream of its own.
        first: index of the first episode, >= 0.
        count: how many episodes.
        width: how many 64-bit words an episode needs.

    Returns:
        ``[count, width]`` uint64; row j depends on ``(seed, split, first + j)`` alone.
    """
    blocks = -(-width // WORDS_PER_COUNT)
    key = np.array([seed, SPLITS.index(split)], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=first * blocks)
    words = generator.random_raw(count * blocks * WORDS_PER_COUNT)
    return words.reshape(count, blocks * WORDS_PER_COUNT)[:, :width]


def uniform(words: Words, low: float = 0.0, high: float = 1.0) -> npt.NDArray[np.float64]:
    """Turn words into uniform numbers in [low, high), with 53 random bits each."""
    unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return low + (high - low) * unit


def distinct(words: Words, population: Integers) -> Integers:
    """Choose k distinct integers below ``population`` by Floyd's algorithm, for all rows at once.

    Args:
        words: ``[..., 2k]`` random words: k to choose with, k to order the chosen ones.
        population: ``[...]`` how many there are to choose from, each >= k.

    Returns:
        ``[..., k]`` int64: every ordered selection of k out of ``population`` is equally likely.
    """
    k = words.shape[-1] // 2
    unit = uniform(words[..., :k])
    chosen = np.empty(unit.shape, dtype=np.int64)
    for j in range(k):
        last = population - k + j
        candidate = (unit[..., j] * (last + 1)).astype(np.int64)
        taken = (chosen[..., :j] == candidate[..., None]).any(axis=-1)
        chosen[..., j] = np.where(taken, last, candidate)
    # Floyd's set is uniform, its order is not: a random order makes the labels exchangeable.
    order = np.argsort(words[..., k:], axis=-1)
    return np.take_along_axis(chosen, order, axis=-1)


class ClassificationStream:
    """N-way K-shot episodes over a class-indexed store, as *indices* into that store.

    The episode's ``x`` holds row numbers of the store (int64), ready for ``ClassStore.take``; this is the one
    place where support and query are separated.

    Args:
        class_sizes: ``[classes]`` how many examples each class has; the store holds them class after class.
        split: which split's random stream to use.
        seed: the stream's seed.
        ways: N, classes in an episode.
        shots: K, support examples per class.
        queries: query examples per class.
        global_labels: label an example by the number of its class in the split, not by 0..N-1 of the episode.

    Raises:
        ValueError: fewer classes than ways, or a class with fewer than shots + queries examples.
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
            name, value = ("shots", shots) if shots >= smallest else ("queries", queries)
            raise SettingError(
                name,
                value,
                f"shots + queries of at most {smallest}, not {shots + queries}, for class number "
                f"{int(class_sizes.argmin())} of the {split} split has no more examples: lower one, or leave it out",
            )
        self.class_sizes = class_sizes
        self.starts = np.cumsum(class_sizes) - class_sizes
        self.split, self.seed = split, seed
        self.ways, self.shots, self.queries = ways, shots, queries
        self.global_labels = global_labels

    def __call__(self, first: int, count: int) -> Episode:
        """Return episodes ``first .. first+count-1``; support ``[count, N*K]``, query ``[count, N*queries]``."""
        ways, each = self.ways, self.shots + self.queries
        words = self._words(first, count)
        classes = self._classes(words)
        example_words = words[:, 2 * ways :].reshape(count, ways, 2 * each)
        examples = self.starts[classes][..., None] + distinct(example_words, self.class_sizes[classes])
        labels = classes if self.global_labels else np.arange(ways)
        labels = np.broadcast_to(labels[..., None], (count, ways, each))

        def part(where: slice) -> Labelled:
            x, y = (np.array(a[..., where]).reshape(count, -1) for a in (examples, labels))
            return Labelled(torch.from_numpy(x), torch.from_numpy(y))

        return Episode(part(slice(0, self.shots)), part(slice(self.shots, each)), numbers(first, count))

    def classes(self, index: int) -> Integers:
        """Return which classes of the split have the labels 0..N-1 in an episode, ``[N]``."""
        classes: Integers = self._classes(self._words(index, 1))[0]
        return classes

    def _words(self, first: int, count: int) -> Words:
        width = 2 * self.ways * (1 + self.shots + self.queries)
        return random_words(self.seed, self.split, first, count, width)

    def _classes(self, words: Words) -> Integers:
        return distinct(words[:, : 2 * self.ways], np.full(len(words), len(self.class_sizes)))
