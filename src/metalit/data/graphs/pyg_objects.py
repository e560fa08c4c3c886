"""Graphs as objects of PyTorch Geometric, in memory or in a file."""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metalit.data.columns import Columns, group_from, shown, split_from
from metalit.data.graphs.graph import Graph, at, both_ways, edge_features_from, edges_from, nodes_from
from metalit.errors import UserError

INSTALL = "files of PyTorch Geometric need it: pip install 'metalit[graphs]'"
# of a saved list of Data, or a data set's ``processed`` file; no other class is made when a file is read
SAFE = {
    "torch_geometric.data.data": ("Data", "DataEdgeAttr", "DataTensorAttr"),
    "torch_geometric.data.storage": ("BaseStorage", "GlobalStorage", "NodeStorage", "EdgeStorage"),
}
ALONG_COLUMNS = "edge_index"  # joined along the second axis; all else along the first


def read_pyg_file(file: Path, where: str, said: Columns, undirected: bool = False) -> Iterator[Graph]:
    """Yield the graphs of a file that ``torch.save`` wrote: a list of ``Data``, or a data set's ``processed`` file.

    Only tensors and PyG's own classes of one graph are loaded, so that a file from elsewhere runs no code.

    Args:
        file: the file.
        where: its name, for messages and names.
        said: attributes with unusual names, by their meaning.
        undirected: whether each edge stands for both directions.

    Raises:
        UserError: it is no such file, PyG is missing, or a graph cannot be used; the message names the graph.
    """
    try:
        with safe_globals():
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, AttributeError, KeyError) as error:
        reason = str(error).split("WeightsUnpickler error:")[-1].strip().splitlines()[0]
        raise UserError(f"{where}: it is no file of PyTorch Geometric's Data objects ({reason})") from error
    yield from read_pyg_objects(separated(found), where, file.stem, said, undirected)


def read_pyg_objects(objects: Any, where: str, task: str, said: Columns, undirected: bool = False) -> Iterator[Graph]:
    """Yield the graph of each object with PyG's attributes ``x``, ``edge_index``, ``edge_attr`` and ``y``.

    Beside these an object may have ``task``, ``group``, ``split`` and ``name``.

    Args:
        objects: the objects.
        where: what messages and names call them.
        task: the task of those that have none.
        said: attributes with unusual names, by their meaning.
        undirected: whether each edge stands for both directions.

    Raises:
        UserError: one cannot be used; the message names its number.
    """
    if isinstance(objects, str) or not isinstance(objects, Iterable):
        raise UserError(f"{where}: it holds {type(objects).__name__}, expected a list of PyTorch Geometric's Data")
    for number, data in enumerate(objects):
        with at(f"{where}, graph {number}"):
            graph = graph_of(data, f"{where}:{number}", task, said, undirected)
        yield graph


def graph_of(data: Any, name: str, task: str, said: Columns, undirected: bool) -> Graph:
    """Return the graph of one object; the arguments are those of ``read_pyg_objects``.

    Raises:
        UserError: it cannot be used.
    """
    nodes = nodes_from(array(needed(data, said.get("nodes", "x"))))
    pairs = array(needed(data, said.get("edges", "edge_index")))
    if pairs.ndim != 2 or pairs.shape[0] != 2 or pairs.dtype.kind not in "iu":
        raise UserError(f"its edge_index has shape {list(pairs.shape)} and {pairs.dtype}, expected [2, E] of integers")
    edges = edges_from(pairs.T, len(nodes))
    features = getattr(data, said.get("edge_features", "edge_attr"), None)
    edge_features = edge_features_from(None if features is None else columns_of(array(features)), len(edges))
    if undirected:
        edges, edge_features = both_ways(edges, edge_features)
    target = plain(getattr(data, said.get("target", "y"), None))
    own = {meaning: plain(getattr(data, said.get(meaning, meaning), None)) for meaning in ("task", "group", "split")}
    called = plain(getattr(data, said.get("name", "name"), None))
    task = task if own["task"] is None else str(own["task"])
    split = split_from(own["split"])
    return Graph(nodes, edges, edge_features, target, task, group_from(own["group"]), split, str(called or name))


def separated(found: Any) -> Any:
    """Return the objects in what a file holds; a ``processed`` file has one object and where each graph begins in it.

    Raises:
        UserError: it holds something else.
    """
    if isinstance(found, tuple) and len(found) >= 2 and isinstance(found[1], dict):
        data, slices = found[:2]
        columns = data if isinstance(data, dict) else data.to_dict()
        count = len(next(iter(slices.values()))) - 1
        return [_one(columns, slices, number) for number in range(count)]
    return [found] if not isinstance(found, Sequence) and getattr(found, "x", None) is not None else found


def _one(columns: dict[str, Any], slices: dict[str, Any], number: int) -> SimpleNamespace:
    graph = SimpleNamespace()
    for name, value in columns.items():
        if name in slices:
            first, last = int(slices[name][number]), int(slices[name][number + 1])
            along = 1 if name == ALONG_COLUMNS else 0
            part = value.narrow(along, first, last - first) if isinstance(value, Tensor) else value[first:last]
            setattr(graph, name, part)
    return graph


def safe_globals() -> AbstractContextManager[Any]:
    """Return the context in which PyG's classes of one graph may be loaded.

    Raises:
        UserError: PyG is not there.
    """
    try:
        classes = [getattr(import_module(module), name) for module, names in SAFE.items() for name in names]
    except ImportError as error:
        raise UserError(INSTALL) from error
    return torch.serialization.safe_globals(classes)


def array(value: Any) -> Any:
    """Return a tensor or array as an array on the host."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def columns_of(features: Any) -> Any:
    """Return features ``[E, D]``; one number for each edge is a column."""
    return features[:, None] if features.ndim == 1 else features


def needed(data: Any, name: str) -> Any:
    """Return an attribute.

    Raises:
        UserError: it is not there.
    """
    found = getattr(data, name, None)
    if found is None:
        raise UserError(f"it has no {name}: add it, or say what it is called by data.columns")
    return found


def plain(value: Any) -> Any:
    """Return a tensor as the number or list that it holds; a list of one as its member."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().flatten().tolist()
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is not None and not isinstance(value, str | bool | int | float | list):
        raise UserError(f"one of its attributes is {shown(value)}, expected a number, a text or a tensor")
    return value
