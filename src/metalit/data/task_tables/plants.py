"""A table of many related tasks, made up: the yield of plants that differ in a few hidden properties."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metalit.files import write_csv

Columns = dict[str, npt.NDArray[Any]]
SUPPLIERS = ("Adler", "Bach", "Cramer", "Dietz", "Ebner", "Frey")
SEASONS = ("spring", "summer", "autumn", "winter")


def plants(tasks: int = 300, rows: tuple[int, int] = (15, 60), noise: float = 0.3, seed: int = 0) -> Columns:
    """Make the columns of a table of plants, in which the yield depends on settings of the process and on the plant.

    A plant has four hidden numbers: its level, the temperature at which it yields most, how much it gains from a dose,
    and how it stands to acid. Ten rows of a plant tell these to one who knows the law that all plants share; a model of
    all plants together cannot know them, and a linear model of one plant cannot know the law.

    Args:
        tasks: number of plants.
        rows: least and largest number of rows of a plant.
        noise: standard deviation of the measurement, in units of yield.
        seed: of all random numbers.

    Returns:
        The columns: plant, batch (rows measured together), temperature, humidity, pressure, dose, acidity (a tenth of
        them nan), age, supplier (some empty), season, night (true or false), yield.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(rows[0], rows[1] + 1, tasks)
    plant, total = np.repeat(np.arange(tasks), sizes), int(sizes.sum())
    level, best, gain, acid = (rng.normal(size=tasks)[plant] for _ in range(4))
    temperature, humidity, pressure, dose, acidity, age = (rng.uniform(-1.7, 1.7, total) for _ in range(6))
    supplier, season, night = rng.integers(6, size=total), rng.integers(4, size=total), rng.random(total) < 0.3
    of_supplier = rng.normal(size=6) * 0.5
    value = (
        level
        - (temperature - best) ** 2
        + 1.5 * gain * np.tanh(1.5 * dose)
        + acid * acidity
        + of_supplier[supplier]
        + 0.4 * humidity
        - 0.5 * night * temperature
        + noise * rng.normal(size=total)
    )
    known = rng.random((2, total)) >= np.array([[0.1], [0.05]])
    batch = np.concatenate([rng.integers(max(2, size // 3), size=size) for size in sizes])
    return {
        "plant": np.array([f"plant_{number:04}" for number in range(tasks)])[plant],
        "batch": batch,
        "temperature": np.round(60 + 10 * temperature, 2),
        "humidity": np.round(0.5 + 0.2 * humidity, 4),
        "pressure": np.round(1013 + 20 * pressure, 1),
        "dose": np.round(5 + 2 * dose, 3),
        "acidity": np.where(known[0], np.round(7 + acidity, 3), np.nan),
        "age": np.round(10 + 4 * age).astype(np.int64),
        "supplier": np.where(known[1], np.array(SUPPLIERS)[supplier], ""),
        "season": np.array(SEASONS)[season],
        "night": np.where(night, "true", "false"),
        "yield": np.round(50 + 4 * value, 3),
    }


def write_plants(path: str | Path, tasks: int = 300, seed: int = 0) -> Path:
    """Write the table of ``plants`` as CSV and return its path; the rows of a plant do not lie together."""
    columns = plants(tasks, seed=seed)
    order = np.random.default_rng(seed + 1).permutation(len(columns["plant"])).tolist()
    cells = [[_cell(value) for value in column.tolist()] for column in columns.values()]
    write_csv(Path(path), [list(columns), *([column[row] for column in cells] for row in order)])
    return Path(path)


def _cell(value: Any) -> str:
    return "" if value != value else str(value)  # nan differs from itself
