"""Columns of a table as arrays: numbers with NaN where a cell is empty, or texts as numbers of distinct values."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from metalit.data.columns import shown
from metalit.data.stream import Integers
from metalit.data.task_tables.reading import RawTable
from metalit.errors import UserError

Floats = npt.NDArray[np.float64]
NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")
DAY = 86_400e6  # microseconds


def kind_of(table: RawTable, name: str) -> str:
    """Return ``number``, ``boolean`` or ``text`` for a column, or ``empty`` if it has no value at all.

    Raises:
        UserError: it holds something else, such as lists.
    """
    import pyarrow as pa

    kind, types = table.columns.schema.field(name).type, pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_null(kind) or table.columns.column(name).null_count == table.columns.num_rows:
        return "empty"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "number"
    raise UserError(
        f"{table.path}: the column {name!r} holds {kind}, expected numbers, texts, true and false, or dates: name it "
        "in data.ignore"
    )


def numbers(table: RawTable, name: str) -> Floats:
    """Return a column of numbers, booleans or dates, NaN where a cell is empty; dates as days since 1970.

    Raises:
        UserError: a number is infinite; the message names its line.
    """
    import pyarrow as pa

    column, days = table.columns.column(name), None
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        column, days = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None))).cast(pa.int64()), DAY
    if not pa.types.is_float64(column.type):
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        column = column.cast(pa.float64(), safe=False)
    found: Floats = column.to_numpy()
    # a sum is finite or NaN unless a member is infinite, or the numbers are near the largest that there are
    if not np.isfinite(np.nansum(found)) and len(rows := np.flatnonzero(np.isinf(found))):
        raise UserError(
            f"{table.where(int(rows[0]))}: the column {name!r} has {found[rows[0]]}, expected a finite number, or an "
            "empty cell if it is not known"
        )
    return found if days is None else found / days


def texts(table: RawTable, name: str) -> tuple[Integers, list[str]]:
    """Return the number of each cell's value, ``[n]`` int64, -1 where it is empty, and the values in their order."""
    import pyarrow as pa

    column = table.columns.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().chunk(0)
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [cell_text(value) for value in column.dictionary.to_pylist()]


def cell_text(value: Any) -> str:
    """Return the name of a category, also of one that a file writes as a number."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def refuse_mixed(table: RawTable, name: str, codes: Integers, values: list[str]) -> None:
    """Refuse a column that is text only because a few of its cells are, among numbers.

    Raises:
        UserError: more than half of its distinct values are numbers; the message names the first line with another.
    """
    wrong = np.array([NUMBER.fullmatch(value) is None or "," in value for value in values], dtype=bool)
    numeric = sum(NUMBER.fullmatch(value) is not None for value in values)
    if 2 * numeric <= len(values):
        return
    bad = np.flatnonzero(wrong[codes] & (codes >= 0))
    row = int(bad[0]) if len(bad) else 0
    comma = " (a decimal comma: write a point)" if NUMBER.fullmatch(values[codes[row]]) else ""
    raise UserError(
        f"{table.where(row)}: the column {name!r} has numbers, but here {shown(values[codes[row]])}{comma}: correct "
        "the cell, empty it, or name the column in data.categorical"
    )
