"""Reads the metrics that Lightning's CSV logger wrote, over all parts of a run that was resumed."""

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
        rows: what was logged at a time: ``step`` and some metrics.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)

    @classmethod
    def read(cls, path: Path, since: float = 0.0) -> "TrainingLog":
        """Read ``metrics.csv`` and the parts before it, ``metrics-1.csv``, ``metrics-2.csv``, ...

        A part that starts again at an earlier step replaces what was logged from that step on. It may start with the
        validation of a step whose training is in the part before.

        Args:
            path: of ``metrics.csv``, which need not be there yet.
            since: seconds since 1970; parts that were last written before are those of another training.
        """
        numbered = path.parent.glob(f"{path.stem}-*{path.suffix}")
        parts = sorted((int(number), part) for part in numbered if (number := part.stem.rpartition("-")[2]).isdigit())
        rows: list[Row] = []
        for part in [*(part for _, part in parts), path]:
            new = _read_rows(part) if part.is_file() and part.stat().st_mtime >= since else []
            rows = _kept(rows, new) + new
        return cls(rows)

    def curve(self, name: str) -> Curve:
        """Return where ``name`` was logged with a finite value; an empty curve if nowhere."""
        points = [(row["step"], row[name]) for row in self.rows if math.isfinite(row.get(name, math.nan))]
        steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        return Curve(steps, values)

    def has(self, name: str) -> bool:
        """Whether training or validation logged ``name``."""
        return any(len(self.curve(f"{split}/{name}").steps) for split in ("train", "val"))


def _kept(rows: list[Row], new: list[Row]) -> list[Row]:
    """Return the rows that are not logged again in ``new``."""
    if not new:
        return rows
    first = new[0]["step"]
    again = {name for row in new if row["step"] == first for name in row} - {"step", "epoch"}
    return [row for row in rows if row["step"] < first or (row["step"] == first and not again & row.keys())]


def _read_rows(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
