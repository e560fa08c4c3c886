"""Class-indexed storage: every example of a split in one tensor, class after class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metalit.data.stream import Integers


@dataclass(frozen=True)
class ClassStore:
    """All examples of one split, sorted by class.

    Attributes:
        items: ``[examples, *features]``, class after class; images as uint8 ``[examples, channels, height, width]``.
        class_sizes: ``[classes]`` int64, how many examples each class has; they sum to ``len(items)``.
        class_names: one name per class, unique over the splits of a data set.
    """

    items: Tensor
    class_sizes: Integers
    class_names: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.class_sizes) != len(self.class_names) or int(self.class_sizes.sum()) != len(self.items):
            raise ValueError(
                f"{len(self.items)} items, {len(self.class_sizes)} class sizes that sum to "
                f"{int(self.class_sizes.sum())} and {len(self.class_names)} class names do not fit together"
            )

    @classmethod
    def from_classes(cls, classes: dict[str, Tensor]) -> "ClassStore":
        """Build a store from one tensor ``[examples, *features]`` per class name."""
        sizes = np.array([len(items) for items in classes.values()], dtype=np.int64)
        return cls(torch.cat(list(classes.values())), sizes, list(classes))

    def take(self, rows: Tensor) -> Tensor:
        """Gather ``[...]`` rows as ``[..., *features]``, on the device where the items are."""
        rows = rows.to(self.items.device)
        # twenty times as fast for uint8 on a CPU as items[rows]
        return self.items.index_select(0, rows.flatten()).reshape(*rows.shape, *self.items.shape[1:])

    def to(self, device: torch.device) -> "ClassStore":
        """Return the same store with its items on ``device``."""
        return ClassStore(self.items.to(device), self.class_sizes, self.class_names)


def to_unit_interval(x: Tensor) -> Tensor:
    """Scale uint8 images to floats in [0, 1]; leave any other input as it is."""
    return x.to(torch.get_default_dtype()).div_(255) if x.dtype == torch.uint8 else x
