"""Finding the files of graphs, in whichever form they are, and putting their graphs side by side."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from metalit.data.class_splits import SPLIT_NAMES, split_in_path
from metalit.data.columns import Columns, shown
from metalit.data.graphs.edge_lists import EDGES, GRAPHS, NODES, read_edge_lists
from metalit.data.graphs.graph import Graph
from metalit.data.graphs.json_lines import read_json_lines
from metalit.data.graphs.pyg_objects import read_pyg_file
from metalit.errors import SettingError, UserError

JSON_LINES, PYG = (".jsonl", ".jsonl.gz"), (".pt", ".pth")
EXPECTED = (
    f"a file of graphs ({', '.join((*JSON_LINES, *PYG))}), or a folder with such files, or with {GRAPHS}, {NODES} and "
    f"{EDGES}"
)


def read_graphs(root: Path, said: Columns, undirected: bool) -> list[Graph]:
    """Return the graphs of a file or folder; files in folders called train, val and test have that split.

    Args:
        root: the file or folder.
        said: entries or columns with unusual names, by their meaning.
        undirected: whether each edge stands for both directions.

    Raises:
        SettingError: there is no such file.
        UserError: a file has no graph, or one cannot be used; the message names file and line.
    """
    found: list[Graph] = []
    for file in find_files(root):
        of_file = list(_read(file, os.path.relpath(file, root if root.is_dir() else root.parent), said, undirected))
        if not of_file:
            raise UserError(f"{file} has no graphs: give one on each line, with its nodes, edges, task and target")
        inside = file.relative_to(root).parent.as_posix() if root.is_dir() else ""
        split = split_in_path(inside)
        found += [graph._replace(split=split) if graph.split is None else graph for graph in of_file]
    return found


def _read(file: Path, where: str, said: Columns, undirected: bool) -> Iterator[Graph]:
    if file.name == GRAPHS:
        return read_edge_lists(file.parent, said, undirected)
    if file.suffix in PYG:
        return read_pyg_file(file, where, said, undirected)
    return read_json_lines(file, where, said, undirected)


def find_files(root: Path) -> list[Path]:
    """Return the files of graphs, sorted by folder and name; for three tables, that of the graphs.

    Raises:
        SettingError: there are none.
    """
    if root.is_file():
        if not root.name.endswith((*JSON_LINES, *PYG)):
            raise SettingError("file", root, EXPECTED)
        return [root]
    if not root.is_dir():
        raise SettingError("file", root, f"{EXPECTED}; there is nothing of that name")
    if (root / GRAPHS).is_file():
        if missing := [name for name in (NODES, EDGES) if not (root / name).is_file()]:
            raise SettingError("file", root, f"{EXPECTED}; it has no {missing[0]}")
        return [root / GRAPHS]
    folders = [root, *(root / split for split in SPLIT_NAMES if (root / split).is_dir())]
    found = [file for folder in folders for file in sorted(folder.iterdir()) if _is_of_graphs(file)]
    if not found:
        there = ", ".join(sorted(each.name for each in root.iterdir())[:5]) or "nothing"
        raise SettingError("file", root, f"{EXPECTED}; it has {there}")
    return found


def _is_of_graphs(file: Path) -> bool:
    return file.name.endswith((*JSON_LINES, *PYG)) and not file.name.startswith(".") and file.is_file()


def check_lengths(graphs: Sequence[Graph]) -> None:
    """Refuse graphs whose nodes or edges have features of different lengths; one without edges may lack those of edges.

    Raises:
        UserError: there are some; the message names two graphs.
    """
    first = graphs[0]
    with_edges = next((graph for graph in graphs if len(graph.edges)), first)
    for graph in graphs:
        if graph.nodes.shape[1] != first.nodes.shape[1]:
            _refuse(first, graph, "nodes", first.nodes.shape[1], graph.nodes.shape[1])
        if len(graph.edges) and graph.edge_features.shape[1] != with_edges.edge_features.shape[1]:
            _refuse(with_edges, graph, "edges", with_edges.edge_features.shape[1], graph.edge_features.shape[1])


def _refuse(one: Graph, other: Graph, what: str, length: int, found: int) -> None:
    raise UserError(
        f"{other.name}: its {what} have {found} features, those of {one.name} have {length}; all graphs need the same"
    )


def with_edge_length(graph: Graph, length: int) -> Graph:
    """Return a graph whose features of edges have a length; one without edges need not know it."""
    return graph if len(graph.edges) else graph._replace(edge_features=np.zeros((0, length), dtype=np.float32))


def has_target(graph: Graph) -> bool:
    """Whether a graph has a target: not None, no empty text, no nan."""
    target = graph.target
    return target is not None and target != "" and not (isinstance(target, float) and math.isnan(target))


def number_target(graph: Graph) -> list[float]:
    """Return the numbers of a target of regression, ``[outputs]``.

    Raises:
        UserError: it is no number, or not finite.
    """
    target = graph.target if isinstance(graph.target, list) else [graph.target]
    if isinstance(graph.target, bool) or not (values := [as_number(each) for each in target]) or None in values:
        raise UserError(f"{graph.name}: its target is {shown(graph.target)}, expected a number")
    if not np.isfinite(np.array(values, dtype=np.float64)).all():
        raise UserError(f"{graph.name}: its target is {shown(graph.target)}, expected a finite number")
    return [each for each in values if each is not None]


def class_target(graph: Graph) -> str:
    """Return the name of the class that is the target.

    Raises:
        UserError: it is a list.
    """
    target = graph.target
    if isinstance(target, list | dict | Tensor):
        raise UserError(f"{graph.name}: its target is {shown(target)}, expected one class")
    if isinstance(target, bool):
        return str(target).lower()
    return str(int(target)) if isinstance(target, float) and target.is_integer() else str(target)


def as_number(value: Any) -> float | None:
    """Return a number, also of a text that is one; None for anything else."""
    try:
        return None if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError):
        return None
