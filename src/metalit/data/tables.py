"""Rows of tables: CSV, TSV and JSON lines."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from metalit.errors import UserError

Row = dict[str, Any]


def read_rows(data: bytes, suffix: str, where: str) -> Iterator[tuple[int, Row]]:
    """Yield the number and the cells of each line of a table.

    Args:
        data: content of the file, in UTF-8, with or without a byte-order mark.
        suffix: ``.jsonl`` for JSON lines; everything else is CSV with commas, semicolons or tabs.
        where: name of the table, for messages.

    Raises:
        UserError: the table cannot be read; the message names the line.
    """
    text = decoded(data, where)
    yield from _json_lines(text, where) if suffix == ".jsonl" else _csv_lines(text, where)


def decoded(data: bytes, where: str) -> str:
    """Return the text in a file.

    Raises:
        UserError: it is not in UTF-8; the message names the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{where}, line {line}: it is not text in UTF-8 (found {error.object[error.start]:#x}): save the file as "
            "UTF-8"
        ) from error


def _json_lines(text: str, where: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), start=1):  # not at other breaks: text may hold them
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}, line {number}: it is not JSON ({error})") from error
            if not isinstance(row, dict):
                raise UserError(f"{where}, line {number}: it is not a JSON object")
            yield number, row


def _csv_lines(text: str, where: str) -> Iterator[tuple[int, Row]]:
    header = text.partition("\n")[0]
    # Meta-Album allows tabs, spreadsheets in some languages write semicolons
    delimiter = max(",\t;", key=header.count)
    # strict: a quote that is never closed would make one text of all lines up to the next quote
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    good = 0
    try:
        twice = [name for name, count in Counter(reader.fieldnames or ()).items() if name.strip() and count > 1]
        if twice:
            raise UserError(f"{where}: it has two columns called {twice[0]}: rename one")
        for row in reader:
            good = reader.line_num
            yield good, {name: cell for name, cell in row.items() if name is not None}
    except csv.Error as error:
        raise UserError(f"{where}, {lines(good + 1, reader.reader.line_num)}: it is not CSV ({error})") from error


def lines(first: int, last: int) -> str:
    """Return the numbers of lines in words."""
    return f"line {last}" if first >= last else f"lines {first} to {last}"
