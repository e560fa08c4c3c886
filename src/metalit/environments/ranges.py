"""Ranges from which the parameters of tasks are drawn."""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from metalit.errors import check

Range = tuple[float, float]


def checked_ranges(ranges: Mapping[str, Sequence[float]], least: float = -math.inf) -> dict[str, Range]:
    """Return ranges as tuples.

    Raises:
        SettingError: a range is not two finite numbers in order, or begins at ``least`` or below.
    """
    for name, values in ranges.items():
        right = len(values) == 2 and -math.inf < values[0] <= values[1] < math.inf and values[0] > least
        above = "" if least == -math.inf else f", above {least:g}"
        check(name, list(values), right, f"[low, high]: two finite numbers, low <= high{above}")
    return {name: (float(values[0]), float(values[1])) for name, values in ranges.items()}


def within(numbers: Tensor, ranges: Mapping[str, Range]) -> dict[str, Tensor]:
    """Map numbers in [0, 1), ``[B, ranges]``, into ranges; return ``[B]`` of each name."""
    columns = numbers.unbind(dim=1)
    return {name: low + (high - low) * part for (name, (low, high)), part in zip(ranges.items(), columns, strict=True)}
