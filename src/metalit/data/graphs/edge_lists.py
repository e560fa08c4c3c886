"""Graphs as three tables: ``graphs.csv``, ``nodes.csv`` and ``edges.csv`` in one folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metalit.data.columns import Columns, Known, find_columns, group_from, shown, split_from
from metalit.data.graphs.graph import (
    Floats,
    Graph,
    GraphArrays,
    at,
    both_ways,
    edge_features_from,
    edges_from,
    nodes_from,
)
from metalit.data.tables import read_rows
from metalit.errors import UserError

GRAPHS, NODES, EDGES = "graphs.csv", "nodes.csv", "edges.csv"
GRAPH = ("graph", "graph_id", "molecule", "mol_id")
OF_GRAPH: Known = {
    "graph": GRAPH,
    "target": ("target", "y", "label"),
    "task": ("task",),
    "group": ("group", "scaffold", "cluster"),
    "split": ("split",),
    "name": ("name",),
}
OF_NODE: Known = {"graph": GRAPH, "node": ("node", "node_id")}
OF_EDGE: Known = {"graph": GRAPH, "source": ("source", "from"), "destination": ("destination", "target", "to")}
Lines = list[tuple[int, Mapping[str, Any]]]


class Table:
    """A table whose rows belong to graphs; every column without a meaning holds numbers.

    Args:
        file: the file.
        known: names in use for each meaning of a column.
        needed: meanings that must be there.

    Raises:
        UserError: it cannot be read, has no rows, or lacks a column.
    """

    def __init__(self, file: Path, known: Known, needed: list[str]) -> None:
        self.name = file.name
        lines: Lines = list(read_rows(file.read_bytes(), ".csv", file.name))
        if not lines:
            raise UserError(f"{file.name}: it has no rows")
        names = list(lines[0][1])
        # in the tables of nodes and edges nothing can be renamed: all their other columns are features
        self.columns = find_columns(names, file.name, {}, needed, known, option="its header")
        self.features = [name for name in names if name not in self.columns.values()]
        self.of_graph: dict[str, Lines] = {}
        for number, row in lines:
            self.of_graph.setdefault(self.cell(number, row, "graph"), []).append((number, row))

    def cell(self, number: int, row: Mapping[str, Any], meaning: str) -> str:
        """Return a cell that must hold something.

        Raises:
            UserError: it is empty.
        """
        value = row[self.columns[meaning]]
        if value is None or not value.strip():
            raise UserError(f"{self.name}, line {number}: its {self.columns[meaning]} is empty")
        return str(value).strip()

    def numbers(self, lines: Lines) -> Floats:
        """Return the features of some rows, ``[m, F]``.

        Raises:
            UserError: a cell is no finite number.
        """
        found = np.zeros((len(lines), len(self.features)), dtype=np.float32)
        for place, (number, row) in enumerate(lines):
            for column, name in enumerate(self.features):
                try:
                    found[place, column] = float(row[name])
                except (TypeError, ValueError):
                    raise UserError(
                        f"{self.name}, line {number}: its {name} is {shown(row[name])}, expected a number"
                    ) from None
                if not np.isfinite(found[place, column]):
                    raise UserError(f"{self.name}, line {number}: its {name} is {row[name]}, expected a finite number")
        return found


def read_edge_lists(folder: Path, said: Columns, undirected: bool = False) -> Iterator[Graph]:
    """Yield the graphs of a folder with ``graphs.csv``, ``nodes.csv`` and ``edges.csv``.

    Each row of ``graphs.csv`` is a graph: columns ``graph``, ``task`` and ``target``, and ``group`` and ``split`` if
    there are any. Each row of the others is a node or an edge of the ``graph`` that it names. An edge has ``source``
    and ``target``: the names in the column ``node``, or the node's place among its graph's rows, from 0, if there is
    no such column. All other columns are features.

    Args:
        folder: the folder.
        said: columns of ``graphs.csv`` with unusual names, by their meaning.
        undirected: whether each edge stands for both directions.

    Raises:
        UserError: a table cannot be used; the message names the line.
    """
    nodes, edges = Table(folder / NODES, OF_NODE, ["graph"]), Table(folder / EDGES, OF_EDGE, [*OF_EDGE])
    columns: dict[str, str] | None = None
    names: dict[str, int] = {}
    for number, row in read_rows((folder / GRAPHS).read_bytes(), ".csv", GRAPHS):
        where = f"{GRAPHS}, line {number}"
        columns = columns or find_columns(row, GRAPHS, said, ["graph", "task", "target"], OF_GRAPH)
        about = {meaning: (row[name] or "").strip() for meaning, name in columns.items()}
        for meaning in ("graph", "task"):
            if not about[meaning]:
                raise UserError(f"{where}: its {columns[meaning]} is empty")
        if names.setdefault(about["graph"], number) != number:
            raise UserError(f"{where}: the graph {about['graph']} is there already, in line {names[about['graph']]}")
        arrays = _arrays(nodes, edges, about["graph"], undirected, where)
        with at(where):
            split = split_from(about.get("split"))
        group = group_from(about.get("group"))
        yield Graph(*arrays, about["target"] or None, about["task"], group, split, about.get("name") or about["graph"])
    for table in (nodes, edges):
        if lost := [name for name in table.of_graph if name not in names]:
            number = table.of_graph[lost[0]][0][0]
            raise UserError(f"{table.name}, line {number}: there is no graph {lost[0]} in {GRAPHS}")


def _arrays(nodes: Table, edges: Table, graph: str, undirected: bool, where: str) -> GraphArrays:
    own = nodes.of_graph.get(graph, [])
    with at(where):
        features = nodes_from(nodes.numbers(own))
    places = _places(nodes, own)
    ends = edges.of_graph.get(graph, [])
    pairs = [[_place(edges, each, name, places) for name in ("source", "destination")] for each in ends]
    found = edges_from(pairs, len(own))
    edge_features = edge_features_from(edges.numbers(ends), len(ends))
    return (features, *both_ways(found, edge_features)) if undirected else (features, found, edge_features)


def _places(nodes: Table, own: Lines) -> dict[str, int]:
    """Return the place of each node of a graph by its name."""
    if "node" not in nodes.columns:
        return {str(place): place for place in range(len(own))}
    found: dict[str, int] = {}
    for place, (number, row) in enumerate(own):
        name = nodes.cell(number, row, "node")
        if found.setdefault(name, place) != place:
            raise UserError(f"{NODES}, line {number}: its graph has the node {name} already")
    return found


def _place(edges: Table, line: tuple[int, Mapping[str, Any]], meaning: str, places: Mapping[str, int]) -> int:
    name = edges.cell(*line, meaning)
    if name not in places:
        there = ", ".join(list(places)[:5]) + (", ..." if len(places) > 5 else "")
        raise UserError(
            f"{EDGES}, line {line[0]}: its {edges.columns[meaning]} is {name}, but its graph has the nodes {there}"
        )
    return places[name]
