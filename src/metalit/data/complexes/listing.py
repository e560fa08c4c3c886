"""The table of complexes: which complex is in which cluster, and how strongly it binds."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from metalit.data.columns import Columns, Known, find_columns, shown
from metalit.errors import UserError

OF_COMPLEXES: Known = {
    "complex": ("complex", "complex_id", "pdb", "pdb_id", "pdbid", "code", "id", "name"),
    "cluster": ("cluster", "cluster_id", "task"),
    "affinity": ("affinity", "pk", "pkd", "-logkd/ki", "label"),
    "group": ("group", "protein", "uniprot"),
    "graphs": ("graphs", "graph", "file"),
}


class Listed(NamedTuple):
    """One line of the table.

    Attributes:
        name: name of the complex.
        cluster: name of its cluster; empty if the table has none.
        affinity: pK, the negative decimal logarithm of a dissociation or inhibition constant in mol/l; None if the
            table has none.
        group: what support and query must not share, such as the protein; empty if there is none.
        file: the file of its graphs.
        line: its number in the table, from 1.
    """

    name: str
    cluster: str
    affinity: float | None
    group: str
    file: Path
    line: int


def read_listing(
    table: Path,
    graphs: Path,
    columns: Columns,
    needed: Sequence[str] = ("complex", "cluster", "affinity"),
    option: str = "data.columns",
) -> list[Listed]:
    """Return the lines of a table of complexes.

    Args:
        table: a CSV file with a header.
        graphs: folder of the files of complexes; a table may name a file relative to it, else it is ``<complex>.npz``.
        columns: columns with unusual names, by their meaning.
        needed: meanings that must be there.
        option: the option by which a user names columns, for messages.

    Raises:
        FileNotFoundError: there is no such table.
        UserError: a column is missing, a complex is there twice, or a cell is no finite number or empty.
    """
    if not table.is_file():
        raise FileNotFoundError(
            f"there is no table of complexes {table}: write your own, or make a synthetic one by "
            f"python -m metalit.data.complexes.synthetic {table.parent} (docs/guide/metascore.md)"
        )
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        known = {"known": OF_COMPLEXES, "option": option}
        found = find_columns(reader.fieldnames or [], str(table), columns, needed, **known)  # type: ignore[arg-type]
        lines = [
            listed(row, found, needed, graphs, f"{table}, line {reader.line_num}", reader.line_num) for row in reader
        ]
    if not lines:
        raise UserError(f"{table} has no line but its header")
    seen: dict[str, int] = {}
    for each in lines:
        if (first := seen.setdefault(each.name, each.line)) != each.line:
            raise UserError(f"{table}, line {each.line}: the complex {each.name} is in line {first} already")
    return lines


def listed(
    row: Mapping[str, str | None],
    columns: Mapping[str, str],
    needed: Sequence[str],
    graphs: Path,
    where: str,
    line: int,
) -> Listed:
    """Return one line of the table, checked."""
    cells = {meaning: (row[name] or "").strip() for meaning, name in columns.items()}
    for meaning in ("complex", "cluster"):
        if meaning in needed and not cells[meaning]:
            raise UserError(f"{where}: its {columns[meaning]} is empty, expected the name of a {meaning}")
    affinity = None
    if cells.get("affinity") or "affinity" in needed:
        affinity = number(cells["affinity"], f"{where}: its {columns['affinity']}")
    file = graphs / (cells.get("graphs") or f"{cells['complex']}.npz")
    return Listed(cells["complex"], cells.get("cluster", ""), affinity, cells.get("group", ""), file, line)


def number(cell: str, where: str) -> float:
    """Return the number in a cell.

    Raises:
        UserError: there is none, or it is not finite.
    """
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} is {shown(cell)}, expected a finite number (pK)")
    return value
