"""Class-indexed storage: all examples of a split, sorted by class, in one tensor or one pytree of tensors."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from metalit.data.stream import Integers
from metalit.errors import UserError
from metalit.functional.examples import count, joined


class Examples(ABC):
    """Examples that do not lie in memory as a tensor, but can be gathered like one: a leaf of a ``ClassStore``.

    Attributes:
        shape: shape that a tensor of all examples would have.
        dtype: dtype of the examples.
        device: where gathered examples lie; that of the host.
    """

    shape: torch.Size
    dtype: torch.dtype
    device = torch.device("cpu")

    @abstractmethod
    def index_select(self, dim: int, rows: Tensor) -> Any:
        """Return the rows ``[m]`` as ``[m, *features]``; ``dim`` is 0, as in ``torch.Tensor.index_select``."""

    def take(self, rows: Tensor) -> Any:
        """Return the rows ``[...]`` as ``[..., *features]``."""
        return self.index_select(0, rows.flatten()).reshape(*rows.shape, *self.shape[1:])

    def parts(self, *rows: Tensor) -> list[Any]:
        """Return several selections for one episode, which ragged examples pad to one length."""
        return [self.take(each) for each in rows]

    def to(self, device: torch.device) -> "Examples":
        """Return the examples themselves: they stay in their file on every device."""
        return self

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        return self.take(torch.arange(len(self))[index])


@dataclass(frozen=True)
class ClassStore:
    """All examples of one split, sorted by class.

    Attributes:
        items: ``[examples, *features]``, sorted by class; images as uint8 ``[examples, channels, height, width]``. Or a
            pytree of such tensors, e.g. token ids and their mask. Or ``Examples`` in place of a tensor.
        class_sizes: ``[classes]`` int64, number of examples of each class; they sum to ``len(items)``.
        class_names: one name per class, unique over the splits of a data set.
        example_names: one name per item, such as its file; or none.
    """

    items: Any
    class_sizes: Integers
    class_names: Sequence[str]
    example_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        lengths = {len(leaf) for leaf in tree_leaves(self.items)}
        total = int(self.class_sizes.sum())
        if len(self.class_sizes) != len(self.class_names) or lengths != {total}:
            raise UserError(
                f"{' and '.join(map(str, sorted(lengths)))} items, {len(self.class_sizes)} class sizes that sum to "
                f"{total} and {len(self.class_names)} class names do not fit together"
            )
        if len(self.example_names) not in (0, total):
            raise UserError(f"{len(self.example_names)} names of examples do not fit to {total} items")

    @classmethod
    def from_classes(cls, classes: Mapping[str, Any]) -> "ClassStore":
        """Build a store from one tensor ``[examples, *features]``, or one pytree of them, per class name."""
        sizes = np.array([count(items) for items in classes.values()], dtype=np.int64)
        return cls(joined(*classes.values()), sizes, list(classes))

    @property
    def device(self) -> torch.device:
        """Return the device of the items."""
        return tree_leaves(self.items)[0].device  # type: ignore[no-any-return]

    def take(self, rows: Tensor) -> Any:
        """Return the rows ``[...]`` as ``[..., *features]``, on the device of the items."""
        rows = rows.to(self.device)

        def gathered(leaf: Any) -> Any:
            if isinstance(leaf, Examples):
                return leaf.take(rows)
            # twenty times as fast as leaf[rows] for uint8 on a CPU
            return leaf.index_select(0, rows.flatten()).reshape(*rows.shape, *leaf.shape[1:])

        return tree_map(gathered, self.items)

    def parts(self, *rows: Tensor) -> list[Any]:
        """Return several selections for one episode, each as ``take`` does; ragged examples get one length."""
        if isinstance(self.items, Examples):
            return self.items.parts(*(each.to(self.device) for each in rows))
        return [self.take(each) for each in rows]

    def to(self, device: torch.device) -> "ClassStore":
        """Return a store with the same items on ``device``."""
        return replace(self, items=tree_map(lambda leaf: leaf.to(device), self.items))
