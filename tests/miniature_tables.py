"""Tables of many small tasks, written by code."""

import csv
from pathlib import Path

import numpy as np


def columns_of_tasks(tasks=12, rows=8, seed=0):
    """Columns: task, number, colour, wet, batch, y (linear in number, with a slope for each task), grade (a or b)."""
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(tasks), rows)
    number, slope = rng.normal(5, 2, len(task)), rng.normal(size=tasks)[task]
    y = 10 + slope * (number - 5)
    return {
        "task": [f"t{each:02}" for each in task],
        "number": np.round(number, 4).tolist(),
        "colour": np.array(["red", "green", "blue"])[rng.integers(3, size=len(task))].tolist(),
        "wet": np.where(rng.random(len(task)) < 0.5, "true", "false").tolist(),
        "batch": rng.integers(4, size=len(task)).tolist(),
        "y": np.round(y, 4).tolist(),
        "grade": np.array(["a", "b"])[np.arange(len(task)) % 2].tolist(),
    }


def write_table(path: Path, columns, delimiter=",", encoding="utf-8"):
    """Write columns as CSV and return the path."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path
