"""Per-episode values gathered over batches and over ranks, each episode once."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from metalit.tasks.precision import at_least_float32


class Evaluation(NamedTuple):
    """The values of n different episodes, ordered by episode index, in host memory.

    Attributes:
        indices: ``[n]`` int64, which episodes of the stream, ascending.
        values: by metric, ``[n, T]`` float64; T = 1 + adaptation steps, the last being final, or 1.
    """

    indices: Tensor
    values: dict[str, Tensor]


class EpisodeValues(Metric):
    """Keeps every episode's values, so that mean and interval are exact whatever the number of ranks.

    Averaging the intervals of ranks, or of batches of different size, would not be. The names of the values are those
    of the first update. An episode that comes twice (a sampler that pads its last batch) is counted once.

    Args:
        **options: the options of ``torchmetrics.Metric``.
    """

    full_state_update = False
    indices: list[Tensor]
    table: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.names: tuple[str, ...] = ()
        self.add_state("indices", [], dist_reduce_fx="cat")
        self.add_state("table", [], dist_reduce_fx="cat")

    def update(self, index: Tensor, values: dict[str, Tensor]) -> None:
        """Note a batch of episodes.

        Args:
            index: ``[B]`` int64, the episodes' indices in their stream.
            values: by metric, ``[B, T]``; names and T as in the first update.
        """
        self.names = self.names or tuple(values)
        assert values.keys() == set(self.names), f"got {sorted(values)} after {sorted(self.names)}"
        self.indices.append(index.detach())
        self.table.append(torch.stack([at_least_float32(values[name]) for name in self.names], dim=1).detach())

    def compute(self) -> Evaluation:
        """Return the values of all episodes that any rank has seen; no values if there was no episode at all."""
        if not self.names:
            return Evaluation(torch.empty(0, dtype=torch.int64), {})
        indices, order = dim_zero_cat(self.indices).cpu().sort(stable=True)
        table = dim_zero_cat(self.table).cpu().double()[order]
        first = torch.ones_like(indices, dtype=torch.bool)
        first[1:] = indices[1:] != indices[:-1]
        return Evaluation(indices[first], dict(zip(self.names, table[first].unbind(dim=1), strict=True)))

    def reset(self) -> None:
        """Forget all episodes, and the names of their values."""
        super().reset()
        self.names = ()

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Gather the values of all ranks; a rank that saw no episode takes part with none."""
        available = distributed_available or self.distributed_available_fn
        if should_sync and not self._is_synced and available is not None and available():
            self._agree_on_layout(process_group or self.process_group)
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def _agree_on_layout(self, process_group: Any | None) -> None:
        # torchmetrics lets an empty rank gather a float vector of length 0, which does not fit the others' shapes
        mine = (self.names, tuple(self.table[0].shape[1:]), self.table[0].dtype) if self.table else None
        layouts: list[Any] = [None] * torch.distributed.get_world_size(process_group)
        torch.distributed.all_gather_object(layouts, mine, group=process_group)
        layout = next((layout for layout in layouts if layout is not None), None)
        if mine is None and layout is not None:
            self.names, shape, dtype = layout
            self.indices.append(torch.empty(0, dtype=torch.int64, device=self.device))
            self.table.append(torch.empty(0, *shape, dtype=dtype, device=self.device))

    def _wrap_compute(self, compute: Callable[..., Evaluation]) -> Callable[..., Evaluation]:
        """Give back the axes that torchmetrics squeezes out of every result with a single element."""
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
