"""Task-indexed storage: all examples of a split, sorted by task, for tasks of unequal size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from metalit.data.store import Examples
from metalit.data.stream import Integers
from metalit.errors import UserError


@dataclass(frozen=True)
class TaskStore:
    """All examples of one split, sorted by task.

    Attributes:
        items: ``[examples, *features]``, sorted by task; or a pytree of such tensors; or ``Examples`` in place of a
            tensor, such as ragged graphs.
        targets: ``[examples]`` int64, labels in 0..N-1, the same classes in every task; or ``[examples, outputs]``
            float, finite.
        task_sizes: ``[tasks]`` int64, number of examples of each task; they sum to ``len(items)``.
        task_names: one name per task, unique over the splits of a data set.
        groups: ``[examples]`` int64; examples of one task with the same number never stand on both sides of its
            division into support and query. None if each example is on its own.
        example_names: one name per example, such as its line in a file; or none.
    """

    items: Any
    targets: Tensor
    task_sizes: Integers
    task_names: Sequence[str]
    groups: Integers | None = None
    example_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        lengths = {len(leaf) for leaf in tree_leaves(self.items)} | {len(self.targets)}
        lengths |= set() if self.groups is None else {len(self.groups)}
        total = int(self.task_sizes.sum())
        if len(self.task_sizes) != len(self.task_names) or lengths != {total}:
            raise UserError(
                f"{' and '.join(map(str, sorted(lengths)))} items, targets or groups, {len(self.task_sizes)} task "
                f"sizes that sum to {total} and {len(self.task_names)} task names do not fit together"
            )
        if len(self.example_names) not in (0, total):
            raise UserError(f"{len(self.example_names)} names of examples do not fit to {total} items")

    @property
    def classification(self) -> bool:
        """Whether targets are classes."""
        return not self.targets.is_floating_point()

    @property
    def device(self) -> torch.device:
        """Return the device of the items."""
        return tree_leaves(self.items)[0].device  # type: ignore[no-any-return]

    def parts(self, *rows: Tensor) -> list[Any]:
        """Return several selections ``[...]`` for one episode, ``[..., *features]`` on the device of the items.

        Ragged examples get one length.
        """
        rows = tuple(each.to(self.device) for each in rows)
        if isinstance(self.items, Examples):
            return self.items.parts(*rows)

        def gathered(leaf: Tensor, which: Tensor) -> Tensor:
            return leaf.index_select(0, which.flatten()).reshape(*which.shape, *leaf.shape[1:])

        return [tree_map(lambda leaf, each=each: gathered(leaf, each), self.items) for each in rows]

    def to(self, device: torch.device) -> "TaskStore":
        """Return a store with the same items on ``device``."""
        return replace(self, items=tree_map(lambda leaf: leaf.to(device), self.items))
