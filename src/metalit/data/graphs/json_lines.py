"""Graphs as JSON lines: metalit's plain form, and that of FS-Mol."""

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metalit.data.columns import Columns, Known, group_from, shown, split_from
from metalit.data.graphs.graph import Graph, GraphArrays, at, both_ways, edge_features_from, edges_from, nodes_from
from metalit.data.stream import Split
from metalit.errors import UserError

Row = Mapping[str, Any]
# names in use for each meaning; the first that a line has is taken
OF_GRAPHS: Known = {
    "nodes": ("nodes", "node_features"),
    "edges": ("edges",),
    "edge_features": ("edge_features",),
    "target": ("target", "y", "label"),
    "task": ("task",),
    "group": ("group", "scaffold", "cluster"),
    "split": ("split",),
    "name": ("name", "id", "SMILES", "smiles"),
}
FS_MOL_TARGET = "Property"  # "1.0" or "0.0"; RegressionProperty has the number behind it


def read_json_lines(file: Path, where: str, said: Columns, undirected: bool = False) -> Iterator[Graph]:
    """Yield the graph on each line of a file; empty lines are passed over.

    A line with ``graph`` and ``SMILES`` is one of FS-Mol. A graph without a task has the file's name as its task.

    Args:
        file: the file, ``.jsonl`` or ``.jsonl.gz``.
        where: its name, for messages and names.
        said: entries with unusual names, by their meaning.
        undirected: whether each edge of the plain form stands for both directions.

    Raises:
        UserError: the file cannot be read, or a line is no graph; the message names the line.
    """
    task = file.name.partition(".json")[0]
    for number, row in numbered_rows(file, where):
        with at(f"{where}, line {number}"):
            graph = graph_of_row(row, f"{where}:{number}", task, said, undirected)
        yield graph


def numbered_rows(file: Path, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the JSON object of each line.

    Raises:
        UserError: the file cannot be read, or a line is no JSON object.
    """
    number = 0
    opened: Callable[..., Any] = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, json_object(line, f"{where}, line {number}")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{where}, after line {number}: it is not a whole gzip file ({error})") from error
    except OSError as error:
        raise UserError(f"{where}: {os.strerror(error.errno or 0)}") from error


def json_object(line: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object on a line.

    Raises:
        UserError: it is none.
    """
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: it is not text in UTF-8: save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: it is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: it is {shown(row)}, expected a JSON object with nodes, edges, task and target")
    return row


def graph_of_row(row: Row, name: str, task: str, said: Columns, undirected: bool) -> Graph:
    """Return the graph that a JSON object describes.

    Args:
        row: the object.
        name: what it is called if it has no name of its own.
        task: its task if it has none.
        said: entries with unusual names, by their meaning.
        undirected: whether each edge of the plain form stands for both directions.

    Raises:
        UserError: it is no graph.
    """
    is_molecule = "graph" in row and "SMILES" in row
    nodes, edges, edge_features = fs_mol_arrays(row["graph"]) if is_molecule else plain_arrays(row, said)
    if is_molecule or undirected:
        edges, edge_features = both_ways(edges, edge_features)
    target = activity(row) if is_molecule and "target" not in said else entry(row, "target", said)
    return Graph(nodes, edges, edge_features, target, *about(row, name, task, said))


def activity(row: Row) -> bool:
    """Return whether a molecule of FS-Mol is active.

    Raises:
        UserError: its ``Property`` is neither 0 nor 1.
    """
    try:
        number = float(row[FS_MOL_TARGET])  # the files have it as text
    except (KeyError, TypeError, ValueError):
        number = -1.0
    if number not in (0, 1):
        raise UserError(f"its {FS_MOL_TARGET} is {shown(row.get(FS_MOL_TARGET))}, expected 0 or 1")
    return number == 1


def about(row: Row, name: str, task: str, said: Columns) -> tuple[str, str | None, Split | None, str]:
    """Return task, group, split and name of a graph.

    Raises:
        UserError: one of them is none.
    """
    found = entry(row, "task", said)
    if found is not None and (isinstance(found, bool) or not isinstance(found, str | int) or found == ""):
        raise UserError(f"its task is {shown(found)}, expected the name or number of one task")
    own = entry(row, "name", said)
    split = split_from(entry(row, "split", said))
    return str(task if found is None else found), group_from(entry(row, "group", said)), split, str(own or name)


def plain_arrays(row: Row, said: Columns) -> GraphArrays:
    """Return nodes, edges and features of edges of the plain form.

    Raises:
        UserError: they are no graph.
    """
    nodes = nodes_from(needed(row, "nodes", said))
    found = needed(row, "edges", said)
    if not isinstance(found, list):
        raise UserError(f"its edges are {shown(found)}, expected a list of pairs of node numbers; [] if there are none")
    edges = edges_from(found, len(nodes))
    return nodes, edges, edge_features_from(entry(row, "edge_features", said), len(edges))


def fs_mol_arrays(graph: Any) -> GraphArrays:
    """Return nodes, bonds and the one-hot kind of each bond of a molecule of FS-Mol, each bond once.

    Args:
        graph: ``node_features`` of each atom, and ``adjacency_lists``: the pairs of atoms of each kind of bond.

    Raises:
        UserError: it has another form.
    """
    if not isinstance(graph, dict) or not {"adjacency_lists", "node_features"} <= graph.keys():
        raise UserError("its graph has another form than FS-Mol's, with adjacency_lists and node_features")
    nodes, lists = nodes_from(graph["node_features"]), graph["adjacency_lists"]
    if not isinstance(lists, list) or not all(isinstance(each, list) for each in lists):
        raise UserError(f"its adjacency_lists are {shown(lists)}, expected a list of pairs for each kind of bond")
    bonds = [edges_from(each, len(nodes)) for each in lists]
    kinds = np.repeat(np.arange(len(bonds)), [len(each) for each in bonds])
    edges = np.concatenate([np.zeros((0, 2), dtype=np.int64), *bonds])
    return nodes, edges, np.eye(len(bonds), dtype=np.float32)[kinds]


def entry(row: Row, meaning: str, said: Columns) -> Any:
    """Return the entry of a line with a meaning; None if it has none."""
    if meaning in said:
        return row.get(said[meaning])
    return next((row[name] for name in OF_GRAPHS[meaning] if name in row), None)


def needed(row: Row, meaning: str, said: Columns) -> Any:
    """Return the entry of a line with a meaning.

    Raises:
        UserError: it has none.
    """
    found = entry(row, meaning, said)
    if found is None:
        usual = said.get(meaning, OF_GRAPHS[meaning][0])
        there = ", ".join(map(str, row)) or "nothing"
        raise UserError(f"it has no {usual}, only {there[:200]}: add it, or say what it is called by data.columns")
    return found
