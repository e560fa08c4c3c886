"""Columns of a table become numbers and codes; the coding is found on training rows, unless a checkpoint has it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metalit.data.columns import shown
from metalit.data.stream import Integers
from metalit.data.task_tables.cells import kind_of, numbers, refuse_mixed, texts
from metalit.data.task_tables.coding import CategoryColumn, Cells, NumberColumn, TableCoding, Targets
from metalit.data.task_tables.reading import RawTable
from metalit.data.task_tables.roles import Roles
from metalit.errors import SettingError, UserError

BLOCK = 4096  # rows that are put together at once


@dataclass
class Remarks:
    """What the user should know of the coding.

    Attributes:
        dropped: columns without a difference between training rows.
        rare: by column, how many of its categories share the code for others.
    """

    dropped: list[str] = field(default_factory=list)
    rare: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return a sentence for each kind of remark."""
        found = []
        if self.dropped:
            names = ", ".join(self.dropped)
            found.append(f"Table: columns left out, as they are the same in all training rows or empty: {names}")
        for name, count in self.rare.items():
            found.append(f"Table: {count} rarer categories of {name} share the code for unseen ones")
        return found


def fitted_features(
    table: RawTable, roles: Roles, order: Integers, training: int
) -> tuple[list[NumberColumn], list[CategoryColumn], Cells, Remarks]:
    """Code the features of a table by its training rows.

    Args:
        table: the table.
        roles: what its columns are.
        order: ``[n]`` rows in the order of the result, those of training tasks first.
        training: number of training rows.

    Raises:
        UserError: a cell cannot be used, or no column is left.
    """
    names, remarks = roles.feature_names(table), Remarks()
    matrix = Matrix(len(order))
    number_columns, category_columns, codes = list[NumberColumn](), list[CategoryColumn](), list[Integers]()
    for name in names:  # one column after the other, so that no two of them have to be in memory
        kind = "text" if name in roles.categorical else kind_of(table, name)
        if kind in ("number", "boolean"):
            values = numbers(table, name)[order]
            table.release(name)  # a column of a large table takes more in the file's form than coded
            number = NumberColumn.fitted(name, values[:training], kind == "boolean")
            if number is not None:
                number_columns.append(number)
                matrix.add(values, number)
                continue
        elif kind == "text":
            of_row, words = _categories(table, roles, name)
            category = CategoryColumn.fitted(name, of_row[order[:training]], words, roles.max_categories)
            if category is not None:
                category_columns.append(category)
                codes.append(category.coded(of_row[order], words))
                seen = len(np.unique(of_row[order[:training]])) - category.missing
                if seen > len(category.values):
                    remarks.rare[name] = seen - len(category.values)
                continue
        remarks.dropped.append(name)
    if not number_columns and not category_columns:
        raise UserError(f"{table.path}: no column to learn from differs between training rows ({', '.join(names)})")
    return (
        number_columns,
        category_columns,
        Cells(matrix.tensor(), _stacked(codes, category_columns, len(order))),
        remarks,
    )


def coded_features(table: RawTable, coding: TableCoding, order: Integers) -> Cells:
    """Return the features of rows ``[n]`` of a table in a coding that is given.

    Raises:
        UserError: a column of the coding is missing, or has other cells.
    """
    there = table.columns.column_names
    for name in [*(each.name for each in coding.numbers), *(each.name for each in coding.categories)]:
        if name not in there:
            raise UserError(
                f"{table.path} has no column {name!r}, which the model was trained on; it has {', '.join(there[:10])}"
            )
    matrix = Matrix(len(order))
    for number in coding.numbers:
        kind = kind_of(table, number.name)
        if kind == "text":
            of_row, words = texts(table, number.name)
            row = int(np.flatnonzero(of_row >= 0)[0])
            raise UserError(
                f"{table.where(row)}: the column {number.name!r} has {shown(words[of_row[row]])}, but the model was "
                "trained on numbers"
            )
        empty = kind == "empty"
        values = np.full(table.columns.num_rows, np.nan) if empty else numbers(table, number.name)
        matrix.add(values[order], number)
    codes = []
    for category in coding.categories:
        of_row, words = texts(table, category.name)
        codes.append(category.coded(of_row[order], words))
    return Cells(matrix.tensor(), _stacked(codes, coding.categories, len(order)))


class Matrix:
    """Standardised columns, which become a row-major matrix once all are there."""

    def __init__(self, rows: int) -> None:
        self.count, self.columns = rows, list[npt.NDArray[np.float32]]()

    def add(self, values: npt.NDArray[np.float64], column: NumberColumn) -> None:
        """Add a column, ``[n]``, standardised."""
        # in float64 before it is rounded: a year or a time stamp has few digits beyond its mean
        self.columns.append(((values - column.mean) * (1.0 / column.scale)).astype(np.float32))

    def tensor(self) -> Tensor:
        """Return the matrix, ``[n, columns]`` float32."""
        rows = np.empty((self.count, len(self.columns)), dtype=np.float32)
        # in blocks that a cache holds: writing whole columns takes several times as long
        for first in range(0, self.count if self.columns else 0, BLOCK):
            block = slice(first, first + BLOCK)
            rows[block] = np.stack([column[block] for column in self.columns], axis=1)
        return torch.from_numpy(rows)


def fitted_targets(table: RawTable, roles: Roles, order: Integers, training: int) -> Targets:
    """Return the coding of the targets by training rows.

    Raises:
        SettingError: the kind does not fit to the target.
        UserError: the targets are all the same.
    """
    kinds = [kind_of(table, name) for name in roles.targets]
    kind = roles.kind
    if kind is None:
        kind = "regression" if set(kinds) <= {"number"} else "classification"
    rows = order[:training]
    if kind == "classification":
        if len(roles.targets) > 1:
            raise SettingError("target", list(roles.targets), "one column: classification has a single target")
        codes, words = _categories(table, roles, roles.targets[0])
        classes = sorted({words[code] for code in np.unique(codes[rows]).tolist()})
        if len(classes) < 2:
            raise UserError(f"{table.path}: training rows have one class of {roles.targets[0]!r}, {classes[0]}")
        return Targets(tuple(roles.targets), classes=tuple(classes))
    for name, found in zip(roles.targets, kinds, strict=True):
        if found == "text":
            refuse_mixed(table, name, *texts(table, name))
            raise SettingError("kind", kind, f"classification: the target {name} is text")
    values = np.stack([numbers(table, name)[rows] for name in roles.targets])
    means, scales = values.mean(axis=1), values.std(axis=1)
    for name, scale in zip(roles.targets, scales, strict=True):
        if not scale > 0:
            raise UserError(f"{table.path}: the target {name!r} is the same in all training rows")
    return Targets(tuple(roles.targets), tuple(means.tolist()), tuple(scales.tolist()))


def target_values(table: RawTable, targets: Targets, order: Integers) -> Tensor:
    """Return the targets of rows ``[n]``: labels ``[n]`` int64, or standardised values ``[n, outputs]`` float64.

    Raises:
        UserError: a class is not one of the training tasks'.
    """
    if targets.classes:
        (name,) = targets.names
        codes, words = texts(table, name)
        known = {word: number for number, word in enumerate(targets.classes)}
        labels = np.array([known.get(word, -1) for word in words], dtype=np.int64)[codes[order]]
        if len(wrong := np.flatnonzero(labels < 0)):
            row = int(order[wrong[0]])
            raise UserError(
                f"{table.where(row)}: the class {words[codes[row]]} of {name!r} is in no training task, which have "
                f"{', '.join(targets.classes)}"
            )
        return torch.from_numpy(labels)
    columns = [
        (numbers(table, name)[order] - mean) / scale
        for name, mean, scale in zip(targets.names, targets.means, targets.scales, strict=True)
    ]
    return torch.from_numpy(np.stack(columns, axis=1))


def rows_with_targets(table: RawTable, names: Sequence[str]) -> Integers:
    """Return the rows in which no target is empty or NaN.

    Raises:
        UserError: there are none.
    """
    there = np.ones(table.columns.num_rows, dtype=bool)
    for name in names:
        if kind_of(table, name) in ("number", "boolean"):
            there &= ~np.isnan(numbers(table, name))
        else:
            there &= texts(table, name)[0] >= 0
    if not there.any():
        raise UserError(f"{table.path}: the target {' or '.join(names)} is empty in every row")
    return np.flatnonzero(there)


def _categories(table: RawTable, roles: Roles, name: str) -> tuple[Integers, list[str]]:
    codes, words = texts(table, name)
    if name not in roles.categorical and kind_of(table, name) == "text":
        refuse_mixed(table, name, codes, words)
    return codes, words


def _stacked(codes: Sequence[Integers], columns: Sequence[CategoryColumn], rows: int) -> Tensor:
    dtype = np.uint8 if all(column.width <= 256 for column in columns) else np.int32
    stacked = np.empty((rows, len(codes)), dtype=dtype)
    for place, each in enumerate(codes):
        stacked[:, place] = each
    return torch.from_numpy(stacked)
