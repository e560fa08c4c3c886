"""Augmentation of training episodes: the random numbers come with the episode, the images are changed on the device."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metalit.data.stream import ClassificationStream, Integers, Words, random_words
from metalit.episode import Episode
from metalit.errors import SettingError
from metalit.functional.augmentation import NUMBERS, Augmentation, check_channels

AUGMENTATION = int.from_bytes(b"augments")  # XORed into the seed: a random stream apart from that of the episodes


class Drawn(NamedTuple):
    """Examples by their rows in the store, with random numbers.

    Attributes:
        rows: ``[B, n]`` int64.
        numbers: ``[B, n, NUMBERS]`` float32, uniform in [0, 1).
    """

    rows: Tensor
    numbers: Tensor


class AugmentedStream:
    """A stream whose examples carry the random numbers of their augmentation.

    The numbers of episode i depend on (seed, split, i) alone, and each support and query example has its own. They
    come from the stream, not from ``finish``: there the episode's number lies on the device, and reading it would make
    the CPU wait.

    Args:
        episodes: the stream, whose inputs are row indices.
    """

    def __init__(self, episodes: ClassificationStream) -> None:
        self.episodes = episodes

    def __call__(self, first: int, count: int) -> Episode:
        """Return episodes ``first .. first+count-1``; the inputs are ``Drawn``."""
        episode, stream = self.episodes(first, count), self.episodes
        shots, examples = episode.support.y.shape[1], episode.support.y.shape[1] + episode.query.y.shape[1]
        words = random_words(stream.seed ^ AUGMENTATION, stream.split, first, count, examples * NUMBERS)
        numbers = torch.from_numpy(uniform32(words)).reshape(count, examples, NUMBERS)
        parts = zip((episode.support, episode.query), (numbers[:, :shots], numbers[:, shots:]), strict=True)
        support, query = (part._replace(x=Drawn(part.x, own.contiguous())) for part, own in parts)
        return Episode(support, query, episode.index)

    def classes(self, index: int) -> Integers:
        """Return the classes of the split behind the labels 0..N-1 of an episode, ``[N]``."""
        return self.episodes.classes(index)


def uniform32(words: Words) -> np.typing.NDArray[np.float32]:
    """Convert random words to uniform float32 numbers in [0, 1), with 24 random bits each."""
    # 24 bits, which a float32 holds exactly: more would round up to 1 now and then
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def check_inputs(augmentation: Augmentation, examples: Any) -> None:
    """Refuse an augmentation of inputs that are not images ``[n, C, H, W]``, with a ``SettingError``."""
    if not isinstance(examples, Tensor) or examples.dim() != 4:
        found = list(examples.shape[1:]) if isinstance(examples, Tensor) else type(examples).__name__
        raise SettingError("augmentation", augmentation, f"none, for an input is no image but {found}")
    try:
        check_channels(examples.shape[1], augmentation)
    except SettingError as error:
        raise SettingError(f"augmentation.{error.name}", error.value, error.expected) from None
