"""From the user's own tables to predictions: tasks are learned from rows with a target, and others are predicted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metalit.algorithms.task_learner import TaskLearner
from metalit.data.stream import Integers
from metalit.data.task_tables import TaskTable
from metalit.data.task_tables.cells import texts
from metalit.data.task_tables.coding import TableCoding
from metalit.data.task_tables.fitting import coded_features, rows_with_targets, target_values
from metalit.data.task_tables.reading import RawTable, read_table
from metalit.episode import Labelled
from metalit.errors import UserError
from metalit.functional.batches import by_batches

BATCH = 4096  # rows predicted at once; affects memory and speed only
WHOLE = ""  # name of the only task of tables without a task column


@dataclass
class PredictedTable:
    """The rows of a table with their predictions.

    Attributes:
        table: the rows to be predicted.
        coding: how targets are coded.
        values: ``[n, outputs]`` predictions in the table's units, or ``[n, N]`` probabilities; nan without a support.
        tasks: number of tasks that were learned.
        unknown: tasks of rows to be predicted of which no row has a target.
        left_out: number of rows to learn from without a target.
        judged: what the predictions are worth, by the targets that rows have; empty without any.
    """

    table: RawTable
    coding: TableCoding
    values: Tensor
    tasks: int = 0
    unknown: list[str] = field(default_factory=list)
    left_out: int = 0
    judged: str = ""

    def rows(self) -> Iterable[Sequence[Any]]:
        """Yield the header and the rows of the table, each with its prediction at the end."""
        targets, columns = self.coding.targets, self.table.columns
        chances = [f"P({name})" for name in targets.classes]
        yield [*columns.column_names, *(f"predicted {name}" for name in targets.names), *chances]
        cells = zip(*(columns.column(name).to_pylist() for name in columns.column_names), strict=True)
        for own, values in zip(cells, self.values.tolist(), strict=True):
            known = values[0] == values[0]  # nan differs from itself
            shown = [f"{value:.6g}" if known else "" for value in values]
            if targets.classes:
                shown = [targets.classes[int(np.argmax(values))] if known else "", *shown]
            yield [*(_shown(cell) for cell in own), *shown]


def _shown(cell: Any) -> Any:
    return "" if cell is None else str(cell).lower() if isinstance(cell, bool) else cell


def predict_rows(learner: TaskLearner, data: TaskTable, support: Path, query: Path) -> PredictedTable:
    """Learn the tasks of one table, and predict the rows of another.

    Args:
        learner: the trained learner.
        data: the data module of its training, which has the coding.
        support: a table with targets. Rows without one are left out.
        query: a table with the same features. Rows are predicted from the support of the same task; if neither table
            has the task column, all rows are one task.

    Raises:
        UserError: a table cannot be used, or the support lacks a class.
    """
    coding = data.coding or data.found_coding()
    given, asked = _opened(support, "support"), _opened(query, "query")
    for name in coding.targets.names:
        if name not in given.columns.column_names:
            raise UserError(f"{support} has no column {name!r}, the target: --support is the table to learn from")
    used = rows_with_targets(given, coding.targets.names)
    of_given, of_asked, names = _tasks(given, asked, data.roles.task, used)
    x, y = (coding.expanded(coded_features(given, coding, used)), target_values(given, coding.targets, used))
    at = coding.expanded(coded_features(asked, coding, np.arange(asked.columns.num_rows)))
    values = torch.full((len(at), coding.targets.outputs), torch.nan, dtype=torch.float64)
    found = PredictedTable(asked, coding, values, left_out=given.columns.num_rows - len(used))
    for task in np.unique(of_asked).tolist():
        rows, wanted = torch.from_numpy(np.flatnonzero(of_given == task)), np.flatnonzero(of_asked == task)
        if not len(rows):
            found.unknown.append(names[task])
            continue
        _check_classes(coding, y[rows], names[task], support)
        values[torch.from_numpy(wanted)] = _predicted(learner, coding, x[rows], y[rows], at[torch.from_numpy(wanted)])
        found.tasks += 1
    found.judged = _judged(found)
    return found


def _opened(path: Path, option: str) -> RawTable:
    if not path.is_file():
        raise FileNotFoundError(f"{option} is {path}, expected a CSV, TSV or parquet file; there is none of that name")
    return read_table(path)


def _predicted(learner: TaskLearner, coding: TableCoding, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    device = learner.device
    dtype = next((each.dtype for each in learner.parameters() if each.is_floating_point()), x.dtype)
    y = y if coding.targets.classes else y.to(dtype)
    predictor = learner.adapt(Labelled(x.to(device, dtype), y.to(device)))
    at = at.to(device, dtype)
    values = predictor(at) if learner.transductive() else by_batches(predictor, at, BATCH)
    values = values.double().cpu()
    return values.softmax(-1) if coding.targets.classes else coding.own_units(values)


def _tasks(
    given: RawTable, asked: RawTable, column: str | None, used: Integers
) -> tuple[Integers, Integers, list[str]]:
    """Return the number of the task of each row to learn from and of each row to predict, and the tasks' names."""
    has = [column in table.columns.column_names for table in (given, asked)]
    if not any(has):
        return np.zeros(len(used), dtype=np.int64), np.zeros(asked.columns.num_rows, dtype=np.int64), [WHOLE]
    if not all(has):
        one, other = (given, asked) if has[0] else (asked, given)
        raise UserError(
            f"{one.path} has the task column {column!r} and {other.path} has not: add it, or leave it out of both, and "
            "all rows are one task"
        )
    assert column is not None
    (of_given, first), (of_asked, second) = texts(given, column), texts(asked, column)
    for table, codes in ((given, of_given[used]), (asked, of_asked)):
        if len(empty := np.flatnonzero(codes < 0)):
            row = int(used[empty[0]] if table is given else empty[0])
            raise UserError(f"{table.where(row)}: the column {column!r} is empty, expected a task")
    names = list(dict.fromkeys([*first, *second]))
    number = {name: place for place, name in enumerate(names)}
    ours, theirs = (np.array([number[name] for name in some], dtype=np.int64) for some in (first, second))
    return ours[of_given[used]], theirs[of_asked], names


def _check_classes(coding: TableCoding, labels: Tensor, task: str, path: Path) -> None:
    there = set(labels.tolist()) if coding.targets.classes else set()
    missing = [name for number, name in enumerate(coding.targets.classes) if number not in there]
    if missing:
        of = f" of the task {task}" if task else ""
        raise UserError(f"{path}: no row{of} is of the class {missing[0]}: give at least one row of each class")


def _judged(found: PredictedTable) -> str:
    targets, table = found.coding.targets, found.table
    if any(name not in table.columns.column_names for name in targets.names):
        return ""
    try:
        known = rows_with_targets(table, targets.names)
    except UserError:  # a column of targets that are all empty
        return ""
    known = known[~found.values[:, 0].isnan().numpy()[known]]
    if not len(known):
        return ""
    predicted, truth = found.values[torch.from_numpy(known)], target_values(table, targets, known)
    if targets.classes:
        return (
            f"Accuracy {float((predicted.argmax(-1) == truth).double().mean()):.3f} on {len(known)} rows with a class"
        )
    errors = (predicted - found.coding.own_units(truth)).square().mean(dim=0).sqrt()
    shown = ", ".join(f"{error:.4g} of {name}" for name, error in zip(targets.names, errors.tolist(), strict=True))
    return f"Root mean squared error {shown} on {len(known)} rows with a target"
