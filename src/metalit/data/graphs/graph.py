"""One graph with its task and target, as files have it, and what is wrong with one that cannot be used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metalit.data.columns import shown
from metalit.data.stream import Integers, Split
from metalit.errors import UserError

Floats = npt.NDArray[np.float32]
GraphArrays = tuple[Floats, Integers, Floats]  # nodes, edges and features of edges
WITHOUT_EDGES = np.zeros((0, 2), dtype=np.int64)


class Graph(NamedTuple):
    """A graph with its task and target.

    Attributes:
        nodes: ``[V, F]``, features of the nodes; V >= 1, F >= 1.
        edges: ``[E, 2]``, source and target of each directed edge, in 0..V-1.
        edge_features: ``[E, D]``.
        target: a number, several, or a class, as the file has it; None if it has none.
        task: name of its task.
        group: what belongs together, such as molecules of one scaffold; None if it is on its own.
        split: of its task, if the data say it.
        name: what messages and predictions call it.
    """

    nodes: Floats
    edges: Integers
    edge_features: Floats
    target: Any
    task: str
    group: str | None
    split: Split | None
    name: str


@contextmanager
def at(where: str) -> Iterator[None]:
    """Put the place before the message of every ``UserError`` from here."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def nodes_from(value: Any) -> Floats:
    """Return the features of nodes ``[V, F]``.

    Raises:
        UserError: there are none, or they are no finite numbers, as many for each node.
    """
    nodes = _numbers(value, "node")
    if not len(nodes):
        raise UserError("it has no node; a graph needs at least one")
    if not nodes.shape[1]:
        raise UserError("its nodes have no features; give each at least one number, such as its degree or a 1")
    return nodes


def edges_from(value: Any, nodes: int) -> Integers:
    """Return edges ``[E, 2]``, given the number of nodes.

    Raises:
        UserError: they are no pairs of nodes of the graph.
    """
    if value is None or not len(value):
        return WITHOUT_EDGES
    try:
        edges = np.asarray(value)
    except ValueError:  # pairs of unequal length
        edges = np.zeros(0)
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        wrong = next((each for each in value if not _is_pair(each)), value)
        raise UserError(f"one of its edges is {shown(wrong)}, expected pairs of node numbers, [source, target]")
    outside = ((edges < 0) | (edges >= nodes)).any(axis=1)
    if outside.any():
        number = int(np.flatnonzero(outside)[0])
        numbers = f"{nodes} nodes, 0 to {nodes - 1}" if nodes > 1 else "one node, 0"
        raise UserError(f"its edge {number} is {edges[number].tolist()}, but it has {numbers}")
    return edges.astype(np.int64)


def edge_features_from(value: Any, edges: int) -> Floats:
    """Return the features of edges ``[E, D]``; D is 0 if there are none.

    Raises:
        UserError: they are no finite numbers, as many for each edge.
    """
    if value is None:
        return np.zeros((edges, 0), dtype=np.float32)
    features = _numbers(value, "edge")
    if len(features) != edges:
        raise UserError(f"it has features of {len(features)} edges, but {edges} edges")
    return features


def both_ways(edges: Integers, features: Floats) -> tuple[Integers, Floats]:
    """Return each edge and then each in the other direction, with the same features; loops once."""
    back = edges[:, 0] != edges[:, 1]
    return np.concatenate([edges, edges[back][:, ::-1]]), np.concatenate([features, features[back]])


def _numbers(value: Any, of: str) -> Floats:
    if not isinstance(value, Sequence | np.ndarray):
        raise UserError(f"the features of its {of}s are {shown(value)}, expected a list of numbers for each {of}")
    try:
        with np.errstate(over="ignore"):  # beyond float32: infinite, which is refused below
            found = np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        raise UserError(_what_is_wrong(value, of)) from None
    if len(found) and found.ndim != 2:
        raise UserError(f"the features of its {of} 0 are {shown(value[0])}, expected a list of numbers")
    if not np.isfinite(found).all():
        row, place = (int(each[0]) for each in np.nonzero(~np.isfinite(found)))
        raise UserError(f"the features of its {of} {row} have {found[row, place]}, expected finite numbers")
    return found if len(found) else found.reshape(0, found.shape[1] if found.ndim == 2 else 0)


def _what_is_wrong(value: Any, of: str) -> str:
    for number, each in enumerate(value):
        if not isinstance(each, Sequence) or isinstance(each, str):
            return f"the features of its {of} {number} are {shown(each)}, expected a list of numbers"
        if len(each) != len(value[0]):
            return f"its {of} {number} has {len(each)} features, its {of} 0 has {len(value[0])}"
        for one in each:
            if isinstance(one, str) or not isinstance(one, int | float):
                return f"the features of its {of} {number} have {shown(one)}, expected numbers"
    return f"the features of its {of}s are not numbers of ordinary size"


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(each, int) and not isinstance(each, bool) and abs(each) < 2**63 for each in value)
    )
