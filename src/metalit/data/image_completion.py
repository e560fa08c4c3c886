"""Image completion as regression: a task is one image, and its examples are pixels."""

from typing import Any

import numpy as np
import torch

from metalit.data.module import ClassificationDataModule, EpisodicDataModule
from metalit.data.store import ClassStore, Examples
from metalit.data.stream import EpisodeStream, Split, numbers, random_words, uniform
from metalit.episode import Episode, Labelled
from metalit.errors import SettingError
from metalit.functional.examples import to_unit_interval


class PixelStream:
    """Random pixels of random images, as indices: ``x`` of the pixel and ``y`` of the image, ``[count, n]`` each."""

    def __init__(self, images: int, pixels: int, *, split: Split, seed: int, shots: int, queries: int) -> None:
        if shots + queries > pixels:
            name, value = ("shots", shots) if shots >= pixels else ("queries", queries)
            raise SettingError(
                name,
                value,
                f"shots + queries of at most {pixels}, the pixels of an image, not {shots + queries}",
            )
        self.images, self.pixels = images, pixels
        self.split, self.seed, self.shots, self.queries = split, seed, shots, queries

    def __call__(self, first: int, count: int) -> Episode:
        """Return episodes ``first .. first+count-1``, one image each; support and query share no pixel."""
        words = random_words(self.seed, self.split, first, count, 1 + self.pixels)
        image = (uniform(words[:, :1]) * self.images).astype(np.int64)
        # sorting one random word per pixel gives a random order, of which the first are shots and queries
        chosen = np.argsort(words[:, 1:], axis=-1)[:, : self.shots + self.queries]
        x, y = torch.from_numpy(chosen), torch.from_numpy(np.broadcast_to(image, chosen.shape).copy())
        k = self.shots
        return Episode(Labelled(x[:, :k], y[:, :k]), Labelled(x[:, k:], y[:, k:]), numbers(first, count))


class ImageCompletion(EpisodicDataModule):
    """The images of a data set as functions from position to pixel value, to be completed from a few pixels.

    An input is a position in [-1, 1]^2, horizontal then vertical; a target is the value of the pixel there, one number
    in [0, 1] per channel. The images of the three splits are of different classes.

    Args:
        images: the data set that supplies the images; its settings of episodes are not used.
        shots: support pixels, in validation and test.
        queries: query pixels; for all remaining pixels, give the number of pixels minus ``shots``.
        **episodes: the settings of ``EpisodicDataModule``.
    """

    def __init__(self, images: ClassificationDataModule, shots: int = 100, queries: int = 200, **episodes: Any) -> None:
        super().__init__(shots=shots, queries=queries, **episodes)
        self.images = images
        self.stores: dict[Split, ClassStore] = {}

    def prepare_data(self) -> None:
        """Download and process the images in one process per machine, before the others start."""
        self.images.prepare_data()

    def make_stream(self, split: Split) -> EpisodeStream:
        """Load the split's images and return the stream of their pixels."""
        self.stores[split] = store = self.images.load(split)
        if isinstance(store.items, Examples):
            raise SettingError("data.images.store", "a file", "memory: single pixels are gathered from there")
        train = split == "train"
        return PixelStream(
            len(store.items),
            store.items[0, 0].numel(),
            split=split,
            seed=self.seed,
            shots=self.train_shots if train else self.shots,
            queries=self.train_queries if train else self.queries,
        )

    def finish(self, episode: Episode, split: Split) -> Episode:
        """Replace pixel indices by positions ``[B, n, 2]`` and image indices by pixel values ``[B, n, channels]``."""
        device = episode.support.x.device
        if self.images.store_on_accelerator and self.stores[split].device != device:
            self.stores[split] = self.stores[split].to(device)
        items = self.stores[split].items
        height, width = items.shape[-2:]

        def gather(part: Labelled) -> Labelled:
            # pixels are numbered row by row
            across, down = part.x % width, torch.div(part.x, width, rounding_mode="floor")
            places = torch.stack([2 * across / (width - 1) - 1, 2 * down / (height - 1) - 1], dim=-1)
            # gathered where the store lies: only the chosen pixels travel to the learner's device
            pixel, image = part.x.to(items.device), part.y.to(items.device)
            values = to_unit_interval(items.flatten(2)[image, :, pixel])
            return Labelled(places.to(values.dtype), values.to(device, non_blocking=True))

        return Episode(gather(episode.support), gather(episode.query), episode.index)

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: the data set of the images, and those of the base class."""
        return {"images": type(self.images).__name__, **super().setting()}
