"""Images in parquet files, as Hugging Face stores them: a column of ``{bytes, path}`` and one of labels."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metalit.data.cache import fingerprint
from metalit.data.class_labels import class_named, class_names
from metalit.data.class_splits import split_in_path
from metalit.data.columns import Columns, composed, find_columns, group_from, label_from, split_from
from metalit.data.images.finding import BadFile
from metalit.data.images.listing import Entry, Listing, Place, Source, listed
from metalit.data.images.reading import reason
from metalit.errors import UserError

INSTALL = "parquet files need pyarrow: pip install 'metalit[parquet]'"


class Parquet(Source):
    """Parquet files with a column of images and one of labels; their split is that in their path, if there is one.

    Args:
        root: the folder that holds all files.
        files: the parquet files.
        columns: the columns that have unusual names.
    """

    def __init__(self, root: Path, files: Sequence[Path], columns: Columns) -> None:
        self.root, self.files, self.columns = root, sorted(files), columns

    def listing(self) -> Listing:
        """Return all images, from the columns beside them."""
        try:
            state = fingerprint(f"parquet {sorted(self.columns.items())}", self.root, self.files)
        except OSError as error:
            raise UserError(f"{error.filename}: {os.strerror(error.errno or 0)}") from error
        entries: list[Entry] = []
        bad: list[BadFile] = []
        for number in range(len(self.files)):
            self._add(number, entries, bad)
        return listed(entries, bad, state)

    def fetch(self, place: Place) -> bytes:
        """Return the content of an image, given its file, row group and row."""
        file, group, row = place
        table = _opened(self.files[file])
        column = find_columns(table.schema_arrow.names, self._name(file), self.columns)["file"]
        value = _group(table, group, column)[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise UserError("the table has no bytes for it, at most a path")
        return data

    def describe(self) -> str:
        """Return the form in a few words."""
        return f"parquet ({len(self.files)})"

    def _name(self, file: int) -> str:
        return os.path.relpath(self.files[file], self.root)

    def _add(self, number: int, entries: list[Entry], bad: list[BadFile]) -> None:
        where = self._name(number)
        try:
            table = _opened(self.files[number])
            columns = find_columns(table.schema_arrow.names, where, self.columns)
            names = class_names(table.schema_arrow.metadata, columns["label"])
            for group in range(table.num_row_groups):
                for row, (cells, path) in enumerate(_cells(table, group, columns)):
                    name = composed(path or f"{where}, group {group}, row {row}")
                    try:
                        label = class_named(names, cells["label"]) if names else cells["label"]
                        split = split_from(cells.get("split")) or split_in_path(where)
                        place = (number, group, row)
                        entries.append(Entry(label_from(label), name, place, split, group_from(cells.get("group"))))
                    except (UserError, IndexError, TypeError) as error:
                        bad.append(BadFile(name, reason(error)))
        except UserError:
            raise
        except Exception as error:  # pyarrow raises many kinds for damaged files
            raise UserError(f"{where}: it is not a whole parquet file ({str(error).splitlines()[0]})") from error


def _opened(file: Path) -> Any:
    # by its state: a file may be replaced while it is open, and its old content would be kept for that of the new one
    status = file.stat()
    return _open(file, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _open(file: Path, *state: int) -> Any:  # noqa: ARG001  # the state is part of the key
    try:
        import pyarrow.parquet as pq  # imported here: it takes long, and few need it
    except ImportError as error:
        raise UserError(INSTALL) from error
    return pq.ParquetFile(file)


@functools.lru_cache(maxsize=1)  # images are read in the order of the file
def _group(table: Any, group: int, column: str) -> Any:
    return table.read_row_group(group, columns=[column]).column(column)


def _cells(table: Any, group: int, columns: dict[str, str]) -> list[tuple[dict[str, Any], str | None]]:
    """Return the cells beside the images of a row group, and the paths of the images where they have one."""
    image = columns["file"]
    field = table.schema_arrow.field(image).type
    has_path = any(field.field(at).name == "path" for at in range(field.num_fields))
    beside = {meaning: name for meaning, name in columns.items() if meaning != "file"}
    read = table.read_row_group(group, columns=[*beside.values(), *([f"{image}.path"] if has_path else [])])
    lists = {meaning: read.column(name).to_pylist() for meaning, name in beside.items()}
    paths = [value["path"] if value else None for value in read.column(image).to_pylist()] if has_path else None
    rows = [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
    return list(zip(rows, paths or [None] * len(rows), strict=True))
