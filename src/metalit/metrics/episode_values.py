"""Per-episode values gathered over batches and ranks, with each episode counted once."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from metalit.ranks import gather_objects
from metalit.tasks.precision import at_least_float32


class Evaluation(NamedTuple):
    """The values of n distinct episodes, ordered by episode index, in host memory.

    Attributes:
        indices: ``[n]`` int64, the indices of the episodes in their stream, ascending.
        values: by metric, ``[n, T]`` float64. T = 1 + adaptation steps for algorithms that adapt in steps, else 1; the
            last entry is the final value.
    """

    indices: Tensor
    values: dict[str, Tensor]


class EpisodeValues(Metric):
    """Keeps the values of every episode, so that mean and interval are exact for any number of ranks.

    An average over the intervals of ranks, or of batches of different size, would not be exact. The first update
    determines the names of the values. An episode that occurs twice, as when a sampler pads its last batch, is counted
    once.

    Args:
        **options: the options of ``torchmetrics.Metric``.
    """

    full_state_update = False  # torchmetrics: an update does not need the state of the earlier ones
    indices: list[Tensor]
    table: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.names: tuple[str, ...] = ()
        self.add_state("indices", [], dist_reduce_fx="cat")
        self.add_state("table", [], dist_reduce_fx="cat")

    def update(self, index: Tensor, values: dict[str, Tensor]) -> None:
        """Add a batch of episodes.

        Args:
            index: ``[B]`` int64, the indices of the episodes in their stream.
            values: by metric, ``[B, T]``, with the names and T of the first update.
        """
        self.names = self.names or tuple(values)
        assert values.keys() == set(self.names), f"got {sorted(values)} after {sorted(self.names)}"
        self.indices.append(index.detach())
        self.table.append(torch.stack([at_least_float32(values[name]) for name in self.names], dim=1).detach())

    def compute(self) -> Evaluation:
        """Return the values of the episodes of all ranks, or no values if there was no episode."""
        if not self.names:
            return Evaluation(torch.empty(0, dtype=torch.int64), {})
        indices, order = dim_zero_cat(self.indices).cpu().sort(stable=True)
        table = dim_zero_cat(self.table).cpu().double()[order]
        # the first of each run of equal indices; the sort is stable, so every rank keeps the same one
        first = torch.ones_like(indices, dtype=torch.bool)
        first[1:] = indices[1:] != indices[:-1]
        return Evaluation(indices[first], dict(zip(self.names, table[first].unbind(dim=1), strict=True)))

    def reset(self) -> None:
        """Discard all episodes and the names of their values."""
        super().reset()
        self.names = ()

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Gather the values of all ranks; a rank without episodes contributes none."""
        available = distributed_available or self.distributed_available_fn
        if should_sync and not self._is_synced and available is not None and available():
            self._agree_on_layout(process_group or self.process_group)
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def _agree_on_layout(self, process_group: Any | None) -> None:
        # torchmetrics would contribute an empty float vector for a rank without episodes, which matches neither the
        # shape nor the dtype of the other ranks; so that rank learns both from the others
        mine = (self.names, tuple(self.table[0].shape[1:]), self.table[0].dtype) if self.table else None
        layout = next((layout for layout in gather_objects(mine, process_group) if layout is not None), None)
        if mine is None and layout is not None:
            self.names, shape, dtype = layout
            self.indices.append(torch.empty(0, dtype=torch.int64, device=self.device))
            self.table.append(torch.empty(0, *shape, dtype=dtype, device=self.device))

    def _wrap_compute(self, compute: Callable[..., Evaluation]) -> Callable[..., Evaluation]:
        """Restore the axes that torchmetrics squeezes out of results with a single element."""
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def with_axes() -> Evaluation:
            evaluation = wrapped()
            indices = evaluation.indices.reshape(-1)
            return Evaluation(
                indices,
                {name: values.reshape(len(indices), -1) for name, values in evaluation.values.items()},
            )

        return with_axes
