"""Standardisation of descriptors by the molecules of training tasks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metalit.data.cache import Arrays

SCALING = "descriptor_scaling"  # entry of a checkpoint
FARTHEST = 10.0  # some descriptors have a few values that are larger by many orders of magnitude


class Scaling(NamedTuple):
    """Mean and standard deviation of each descriptor, ``[D]`` float64."""

    mean: Tensor
    std: Tensor

    def applied(self, x: Tensor) -> Tensor:
        """Return descriptors ``[..., D]`` standardised and limited to 10 deviations; 0 where one is missing."""
        mean, std = (each.to(x.device) for each in self)
        scaled = ((x.double() - mean) / std).nan_to_num(nan=0.0).clamp(-FARTHEST, FARTHEST)
        return scaled.to(torch.get_default_dtype())


def scaling_of(descriptors: np.ndarray[Any, Any]) -> Arrays:
    """Return ``mean`` and ``std`` of descriptors ``[n, D]``, without missing ones; 0 and 1 for a constant one."""
    # column by column, as float64 of all columns at once would be twice the data
    columns = [column[~np.isnan(column)].astype(np.float64) for column in descriptors.T]
    mean = np.array([column.mean() if len(column) else 0.0 for column in columns])
    std = np.array([column.std() if len(column) else 0.0 for column in columns])
    return {"mean": mean, "std": np.where(std > 0, std, 1.0)}


def from_checkpoint(checkpoint: Mapping[str, Any]) -> Scaling | None:
    """Return the scaling that a training on these or other data has put into its checkpoint; None if it has not."""
    states = [state for state in checkpoint.values() if isinstance(state, Mapping) and SCALING in state]
    return Scaling(*states[0][SCALING]) if states else None
