"""Images listed in a table: CSV or JSON lines, as of Meta-Album or of Hugging Face's imagefolder."""

import json
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from metalit.data.class_splits import split_in_path
from metalit.data.columns import (
    NEEDED,
    Columns,
    composed,
    find_columns,
    group_from,
    hot_label,
    label_from,
    split_from,
)
from metalit.data.images.finding import BadFile, ImageFile, state_of
from metalit.data.images.folders import state_of_files
from metalit.data.images.listing import Entry, Listing, Place, Source, listed
from metalit.data.images.reading import SUFFIXES, content, reason
from metalit.data.tables import Row, read_rows
from metalit.errors import UserError

INFO = {"image_column_name": "file", "category_column_name": "label", "super_category_column_name": "group"}


class Manifest(Source):
    """Tables with one line per image: its file, its label and, if given, its split and its group.

    Files are named relative to the table's folder, or to ``images`` beside it. A file outside of the root is refused. A
    name without the suffix of an image stands for that with ``.jpg`` or ``.png``.

    Args:
        root: the folder that holds all files.
        tables: the tables, ``.csv``, ``.tsv`` or ``.jsonl``.
        columns: the columns that have unusual names.
        hot: the columns of a one-hot label, one for each class; nothing if the label is in one column.
        image_dir: pattern of the folders of the images beside a table, in place of ``images``.
        split_by_folder: without a column for it, the split of an image is that in the path of its file.
    """

    def __init__(
        self,
        root: Path,
        tables: Sequence[Path],
        columns: Columns,
        hot: Sequence[str] = (),
        image_dir: str = "images",
        split_by_folder: bool = False,
    ) -> None:
        self.root, self.tables, self.columns = root, list(tables), columns
        self.hot, self.image_dir, self.split_by_folder = hot, image_dir, split_by_folder

    def listing(self) -> Listing:
        """Return all images; a file that is missing, listed under two labels or outside of the root is bad."""
        lines = _Lines(self.root)
        for table in self.tables:
            self._add(table, lines)
        entries = lines.entries.values()
        # with the labels: they decide the order of the images, and which are in two classes
        state = state_of_files([lines.files[entry.place] for entry in entries], [entry.label for entry in entries])
        return listed(entries, lines.bad.values(), state)

    def fetch(self, place: Place) -> bytes:
        """Return the content of a file."""
        return content(str(place))

    def describe(self) -> str:
        """Return the form in a few words."""
        return ", ".join(os.path.relpath(table, self.root) for table in self.tables)

    def _add(self, table: Path, lines: "_Lines") -> None:
        where = os.path.relpath(table, self.root)
        columns: dict[str, str] | None = None
        folders = [table.parent, *sorted(table.parent.glob(self.image_dir))]
        for number, row in rows_of(table, where):
            if columns is None:
                columns = self._columns(table, where, row)
            cells = {meaning: row.get(name) for meaning, name in columns.items()}
            label = partial(hot_label, row, self.hot) if self.hot else partial(label_from, cells.get("label"))
            lines.add(folders, f"{where}, line {number}", cells, label, self.split_by_folder)
        if columns is None:
            raise UserError(f"{where}: it lists no images")

    def _columns(self, table: Path, where: str, row: Row) -> dict[str, str]:
        said = {**_renamed(table.parent, row), **self.columns}
        if missing := [name for name in self.hot if name not in row]:
            raise UserError(f"{where}: it has no column {missing[0]}, only {', '.join(row)}")
        return find_columns(row, where, said, ["file"] if self.hot else NEEDED)


class _Lines:
    """What the lines of tables list, by the path of the file."""

    def __init__(self, root: Path) -> None:
        self.root = os.path.abspath(root)  # noqa: PTH100  # links stay as they are named
        self.entries: dict[str, Entry] = {}
        self.files: dict[str, ImageFile] = {}
        self.bad: dict[str, BadFile] = {}

    def add(
        self, folders: Sequence[Path], where: str, cells: Row, label: Callable[[], str], split_by_folder: bool
    ) -> None:
        try:
            path, status = find_file(self.root, folders, cells["file"])
            name = composed(os.path.relpath(path, self.root))
            split = split_from(cells.get("split"))
            if split is None and split_by_folder:
                split = split_in_path(os.path.dirname(name))  # noqa: PTH120
            entry = Entry(label(), name, path, split, group_from(cells.get("group")))
            if (first := self.entries.setdefault(path, entry)).label != entry.label:
                raise UserError(f"{name} has two labels, {first.label} and {entry.label}")
            if first.split != entry.split:
                raise UserError(f"{name} is in two splits, {first.split} and {entry.split}")
            self.files[path] = ImageFile(name, path, state_of(status))
        except (UserError, OSError) as error:
            self.bad[where] = BadFile(where, reason(error))


def find_file(root: str, folders: Sequence[Path], name: Any) -> tuple[str, os.stat_result]:
    """Return the path of a listed file, and its status.

    Args:
        root: the folder that may hold files.
        folders: the folders that may hold it: that of the table first.
        name: the cell of the file.

    Raises:
        UserError: it names no file, or one outside of the root.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise UserError(f"its file is {name!r}, expected a path")
    # as it is; as another file system writes it; as Windows writes it
    spellings = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")), name.replace("\\", "/")]
    if name[name.rfind(".") :].lower() not in SUFFIXES:
        spellings += [name + suffix for suffix in (".jpg", ".png")]
    for base in folders:
        for spelling in dict.fromkeys(spellings):
            path = os.path.abspath(os.path.join(base, spelling))  # noqa: PTH100, PTH118
            if os.path.commonpath([path, root]) != root:
                raise UserError(f"{name} lies outside of {root}, where all files must be")
            try:
                status = os.stat(path)  # noqa: PTH116
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{name} is not a regular file")
            return path, status
    raise UserError(f"there is no file {name}")


def rows_of(table: Path, where: str) -> Iterator[tuple[int, Row]]:
    """Yield the number and the cells of each line of a table.

    Raises:
        UserError: the table cannot be read; the message names the line.
    """
    try:
        data = content(table)
    except (OSError, UserError) as error:
        raise UserError(f"{where}: {reason(error)}") from error
    yield from read_rows(data, table.suffix, where)


def _renamed(folder: Path, row: Row) -> Columns:
    """Return the columns that Meta-Album's ``info.json`` names."""
    try:
        info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
        return {meaning: info[key] for key, meaning in INFO.items() if info.get(key) in row}
    except (OSError, ValueError, AttributeError, TypeError):  # another program's info.json, without columns
        return {}
