"""Tables as files: CSV and parquet become one table of columns, and a row's place in its file is found for messages."""

import csv
import functools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metalit.errors import SettingError, UserError

if TYPE_CHECKING:
    import pyarrow as pa

INSTALL = "tables need pyarrow: pip install 'metalit[parquet]'"
PARQUET = (".parquet", ".pq")
BLOCK = 1 << 22  # bytes of a CSV file that are read at once
HEADER = 1 << 20  # bytes at the beginning of a file in which its first line must end


class ParquetColumns:
    """The columns of a parquet file, each read when it is asked for: a large table never lies in memory as a whole.

    It offers what ``RawTable`` needs of a ``pyarrow.Table``.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path, self._file, self._read = path, pq.ParquetFile(path), dict[str, Any]()
        self.schema, self.num_rows = self._file.schema_arrow, self._file.metadata.num_rows
        self.column_names: list[str] = self.schema.names

    def column(self, name: str) -> "pa.ChunkedArray":
        """Return a column; it is kept until it is dropped."""
        if name not in self._read:
            with refused(self.path):
                self._read[name] = self._file.read(columns=[name]).column(0)
        return self._read[name]

    def drop_columns(self, names: list[str]) -> "ParquetColumns":
        """Return the table without the memory of some columns."""
        for name in names:
            self._read.pop(name, None)
        return self


@dataclass
class RawTable:
    """A table as it lies in a file.

    Attributes:
        columns: the columns with the types that pyarrow finds.
        path: its file.
    """

    columns: "pa.Table | ParquetColumns"
    path: Path

    def release(self, name: str) -> None:
        """Give the memory of a column back, which is not needed any more."""
        import pyarrow as pa

        self.columns = self.columns.drop_columns([name])
        pa.default_memory_pool().release_unused()

    def where(self, row: int) -> str:
        """Return how messages call a row, counted from 0: its line in a CSV file."""
        if self.path.suffix.lower() in PARQUET:
            return f"{self.path.name}, row {row + 1}"
        return f"{self.path.name}, line {line_of(self.path, row)}"


def read_table(path: Path) -> RawTable:
    """Read a CSV, TSV or parquet file.

    Raises:
        SettingError: there is no such file.
        UserError: it is empty, no table, or has two columns of one name; the message names file and line.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise SettingError("file", path, f"a CSV, TSV or parquet file; there is {found} of that name")
    try:
        if path.suffix.lower() in PARQUET:
            with refused(path):
                columns: pa.Table | ParquetColumns = ParquetColumns(path)
        else:
            columns = _read_csv(path)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(INSTALL) from error
    except OSError as error:
        raise UserError(f"{path}: {os.strerror(error.errno) if error.errno else error}") from error
    _refuse_repeated(columns.column_names, path)
    if not columns.num_rows:
        raise UserError(f"{path} has no rows below its header: give a table with at least two rows per task")
    return RawTable(columns, path)


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Explain that a file is no parquet file, or a damaged one."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is not a parquet file: {_first_line(error)}") from error
    except OSError as error:
        if error.errno:  # not of the content
            raise
        raise UserError(f"{path} is damaged: {_first_line(error)}") from error


def _read_csv(path: Path) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names, delimiter = _header(path)
    _refuse_repeated(names, path)
    parse = functools.partial(arrow_csv.ParseOptions, delimiter=delimiter)
    convert = arrow_csv.ConvertOptions(strings_can_be_null=True)
    try:
        # a third of the memory of read_csv, and not slower; but types are those of the first block
        options = arrow_csv.ReadOptions(block_size=BLOCK)
        with arrow_csv.open_csv(path, options, parse(), convert) as reader:
            return pa.Table.from_batches(list(reader), reader.schema)
    except pa.ArrowInvalid:
        pass
    try:
        # types from all blocks; and cells may have line breaks
        return arrow_csv.read_csv(path, parse_options=parse(newlines_in_values=True), convert_options=convert)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} cannot be read as CSV: {_explained(path, delimiter, len(names), error)}") from error


def _header(path: Path) -> tuple[list[str], str]:
    with path.open("rb") as file:
        start = file.read(HEADER)
    if not start.strip():
        raise UserError(f"{path} is empty: give a table with a header and at least two rows per task")
    try:
        line = start.split(b"\n", 1)[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not text in UTF-8 (found {start[:1]!r} at its beginning): save it as UTF-8"
        ) from error
    # spreadsheets in some languages write semicolons
    delimiter = max(",\t;", key=line.count)
    return next(csv.reader([line.rstrip("\r")], delimiter=delimiter)), delimiter


def _refuse_repeated(names: list[str], path: Path) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{path}: it has two columns called {twice[0]!r}: rename one")


def _explained(path: Path, delimiter: str, width: int, error: Exception) -> str:
    """Return what is wrong with a file that pyarrow refuses, with the line if it can be found."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            for cells in reader:
                if cells and len(cells) != width:
                    return f"line {reader.line_num} has {len(cells)} cells, the header has {width}"
    except UnicodeDecodeError as wrong:
        with path.open("rb") as binary:
            line = binary.read().count(b"\n", 0, wrong.start) + 1
        return f"it is not text in UTF-8 near line {line}: save the file as UTF-8"
    except csv.Error:
        pass
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def line_of(path: Path, row: int) -> int:
    """Return the line at which a row of a CSV file ends, given its number from 0; cells may have line breaks."""
    _, delimiter = _header(path)
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        reader = csv.reader(file, delimiter=delimiter)
        number = -1  # of the header
        for cells in reader:
            number += bool(cells)
            if number == row + 1:
                break
        return reader.line_num
