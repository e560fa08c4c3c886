"""Tables of texts and labels: CSV, TSV, JSON lines and parquet."""

import os
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from metalit.data.class_labels import class_named, class_names
from metalit.data.class_splits import SPLIT_NAMES, split_in_path
from metalit.data.columns import GROUP, SPLIT, Columns, Known, find_columns, group_from, split_from
from metalit.data.stream import Split
from metalit.data.tables import read_rows
from metalit.data.texts.listing import Row, TextSource
from metalit.errors import SettingError, UserError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
OF_TEXTS: Known = {
    "text": ("text", "sentence", "utterance", "query", "headline", "question", "content", "message"),
    "label": ("label", "intent", "category", "class", "label_text", "target", "labels", "class_name"),
    "split": SPLIT,
    "group": (*GROUP, "domain", "scenario"),
}
INSTALL = "parquet files need pyarrow: pip install 'metalit[parquet]'"


class Tables(TextSource):
    """Tables with one text in each row.

    Files called train, val and test divide the classes only if no class is in two of them: most data sets have every
    class in all three, and then their rows are put together.

    Args:
        root: a file, or a folder with such files, in itself or in its folder ``data``.
        columns: columns with unusual names, by their meaning: text, label, split or group.
        needed: meanings that must be there.
        option: the option by which a user names columns, for messages.
        files: the tables in ``root``; all if not given.

    Raises:
        SettingError: there is no such file.
    """

    def __init__(
        self,
        root: Path,
        columns: Columns,
        needed: Sequence[str] = ("text", "label"),
        option: str = "data.columns",
        files: Sequence[Path] | None = None,
    ) -> None:
        self.root, self.columns, self.needed, self.option = root, columns, needed, option
        self.files = find_tables(root) if files is None else files
        self.folder = root.parent if root.is_file() else root

    def rows(self) -> Iterator[Row]:
        """Yield all rows; their split is that of the column, or that of the file's name if classes do not share it."""
        found = [row for file in self.files for row in self._rows(file)]
        named = {row.where: split_in_path(row.where.rpartition(":")[0]) for row in found}
        splits: dict[str, set[Split | None]] = {}
        for row in found:
            splits.setdefault(str(row.label), set()).add(named[row.where])
        divided = len(set(named.values())) > 1 and all(len(of) == 1 and None not in of for of in splits.values())
        for row in found:
            yield row._replace(split=named[row.where]) if divided and row.split is None else row

    def _rows(self, file: Path) -> Iterator[Row]:
        where = os.path.relpath(file, self.folder)
        columns: dict[str, str] | None = None
        for number, cells in table_rows(file, where, self.columns):
            if columns is None:
                columns = find_columns(cells, where, self.columns, self.needed, OF_TEXTS, self.option)
            yield self._row(f"{where}:{number}", {meaning: cells.get(name) for meaning, name in columns.items()})
        if columns is None:
            raise UserError(f"{where}: it has no rows")

    def _row(self, where: str, cells: dict[str, Any]) -> Row:
        try:
            split, group = split_from(cells.get("split")), group_from(cells.get("group"))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        return Row(where, cells["text"], cells.get("label"), split, group)


def find_tables(root: Path) -> list[Path]:
    """Return the tables of a data set, sorted by name.

    Raises:
        SettingError: there are none.
    """
    expected = f"a file with one of the endings {', '.join(SUFFIXES)}, or a folder with such files"
    if root.is_file():
        if root.suffix.lower() not in SUFFIXES:
            raise SettingError("root", root, expected)
        return [root]
    if not root.is_dir():
        raise SettingError("root", root, f"{expected}; there is none")
    folders = [root, root / "data", *(root / split for split in SPLIT_NAMES)]
    found = [
        file
        for folder in folders
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    if not found:
        there = ", ".join(sorted(each.name for each in root.iterdir())[:5]) or "nothing"
        raise SettingError("root", root, f"{expected}; it has {there}")
    return found


def table_rows(file: Path, where: str, columns: Columns) -> Iterable[tuple[int, dict[str, Any]]]:
    """Return the number and the cells of each row of a table.

    Args:
        file: the table.
        where: its name, for messages.
        columns: columns with unusual names.

    Raises:
        UserError: it cannot be read; the message names the line.
    """
    if file.suffix.lower() == ".parquet":
        return _parquet_rows(file, where, columns)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{where}: {os.strerror(error.errno or 0)}") from error
    return read_rows(data, file.suffix.lower(), where)


def _parquet_rows(file: Path, where: str, said: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise UserError(INSTALL) from error
    try:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        label = find_columns(names, where, said, needed=["text"], known=OF_TEXTS).get("label")
        known = class_names(table.schema_arrow.metadata, label) if label else []
        rows = (row for batch in table.iter_batches() for row in batch.to_pylist())
        for number, cells in enumerate(rows, start=1):
            yield number, ({**cells, label: _name(known, cells[label])} if label and known else cells)
    except UserError:
        raise
    except Exception as error:  # pyarrow raises many kinds for damaged files
        raise UserError(f"{where}: it is not a whole parquet file ({str(error).splitlines()[0]})") from error


def _name(known: Sequence[str], number: Any) -> str | None:
    try:
        return class_named(known, number)
    except UserError:  # -1 marks a row without a label
        return None
