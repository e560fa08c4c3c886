"""Names of classes and files behind the numbers of test episodes."""

from collections.abc import Callable
from functools import partial

import lightning as L

from metalit.data.module import ClassificationDataModule, EpisodeNames
from metalit.data.stream import ClassificationStream


def names_of_test(trainer: L.Trainer) -> Callable[[int], EpisodeNames] | None:
    """Return a function from the number of a test episode to its names, or None if the data set has none."""
    datamodule = getattr(trainer, "datamodule", None)  # None if the user passes loaders instead
    if not isinstance(datamodule, ClassificationDataModule) or "test" not in datamodule.stores:
        return None
    return partial(datamodule.names, "test") if isinstance(datamodule.streams["test"], ClassificationStream) else None
