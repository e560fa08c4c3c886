"""Reading the metrics of Lightning's CSV logger, over all parts of a resumed run."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Row = dict[str, float]


class Curve(NamedTuple):
    """One logged metric.

    Attributes:
        steps: ``[n]`` training steps, ascending.
        values: ``[n]`` finite values.
    """

    steps: Array
    values: Array


class TrainingLog:
    """The metrics of a training run, by name.

    Args:
        rows: one dictionary per logged row: ``step`` and some metrics.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)

    @classmethod
    def read(cls, path: Path, since: float = 0.0) -> "TrainingLog":
        """Read ``metrics.csv`` and the parts before it, ``metrics-1.csv``, ``metrics-2.csv``, ...

        A part that restarts at an earlier step replaces all rows from that step on. A part may also begin with the
        validation of a step whose training row is in the part before.

        Args:
            path: path of ``metrics.csv``, which need not exist yet.
            since: seconds since 1970; parts last modified before it belong to another training and are left out.
        """
        # sorted as numbers: by name, metrics-10.csv would come before metrics-2.csv
        numbered = path.parent.glob(f"{path.stem}-*{path.suffix}")
        parts = sorted((int(number), part) for part in numbered if (number := part.stem.rpartition("-")[2]).isdigit())
        rows: list[Row] = []
        for part in [*(part for _, part in parts), path]:
            if part.is_file() and part.stat().st_mtime >= since:
                with part.open(newline="") as file:
                    new = [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
                rows = _not_repeated(rows, new) + new
        return cls(rows)

    def curve(self, name: str) -> Curve:
        """Return the steps and values at which ``name`` was logged and finite; the curve may be empty."""
        points = [(row["step"], row[name]) for row in self.rows if math.isfinite(row.get(name, math.nan))]
        steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        return Curve(steps, values)

    def has(self, name: str) -> bool:
        """Whether training or validation logged ``name``."""
        return any(len(self.curve(f"{split}/{name}").steps) for split in ("train", "val"))


def _not_repeated(rows: list[Row], new: list[Row]) -> list[Row]:
    if not new:
        return rows
    first = new[0]["step"]
    # a training row and a validation row of the same step have different metrics; only an overlap is a repetition
    again = {name for row in new if row["step"] == first for name in row} - {"step", "epoch"}
    return [row for row in rows if row["step"] < first or (row["step"] == first and not again & row.keys())]
