"""What a molecule's line holds for a network: fingerprints, descriptors or a graph, gathered line by line."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from metalit.data.cache import Arrays
from metalit.data.graphs.graph import both_ways
from metalit.data.graphs.json_lines import fs_mol_arrays
from metalit.data.graphs.ragged import RaggedGraphs
from metalit.data.molecules.lines import Floats, Line
from metalit.data.molecules.sparse_counts import from_arrays, offsets_of
from metalit.errors import UserError

MOST = 255  # a count that a byte holds


class Content(ABC):
    """Gathers one kind of input from lines of molecules, for a cache of arrays."""

    @abstractmethod
    def add(self, line: Line) -> None:
        """Add the molecule of the next line.

        Raises:
            UserError: the line does not have it, or not in the form of the lines before.
        """

    @abstractmethod
    def arrays(self) -> Arrays:
        """Return all that was added."""

    @staticmethod
    @abstractmethod
    def items(arrays: Arrays) -> Any:
        """Return the inputs ``[n, ...]`` of a store from the arrays."""


class Fingerprints(Content):
    """Fingerprints: how often each of 2048 hashed substructures occurs, 255 at most."""

    def __init__(self) -> None:
        self.columns: list[Any] = []
        self.counts: list[Any] = []
        self.length: int | None = None

    def add(self, line: Line) -> None:
        """Add a fingerprint."""
        values = line.numbers("fingerprints")
        self.length = _equally_long(line, "fingerprints", values, self.length)
        # a nan fails the comparison
        if not (values >= 0).all() or (values % 1 != 0).any() or len(values) > np.iinfo(np.int16).max:
            raise UserError(f"{line.where} has fingerprints that are not whole numbers of at least 0")
        columns = np.flatnonzero(values)
        self.columns.append(columns.astype(np.int16))
        self.counts.append(np.minimum(values[columns], MOST).astype(np.uint8))

    def arrays(self) -> Arrays:
        """Return the entries that are not 0."""
        return {
            "columns": np.concatenate(self.columns),
            "counts": np.concatenate(self.counts),
            "offsets": offsets_of([len(each) for each in self.columns]),
            "length": np.array(self.length),
        }

    @staticmethod
    def items(arrays: Arrays) -> Any:
        """Return ``[n, length]`` float32, kept as the entries that are not 0."""
        return from_arrays(arrays)


class Descriptors(Content):
    """Physical and chemical descriptors; what is not finite, or beyond float32, counts as missing, which is nan."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.length: int | None = None

    def add(self, line: Line) -> None:
        """Add descriptors."""
        values = line.numbers("descriptors")
        self.length = _equally_long(line, "descriptors", values, self.length)
        self.rows.append(np.where(np.abs(values) < np.finfo(np.float32).max, values, np.nan).astype(np.float32))

    def arrays(self) -> Arrays:
        """Return the descriptors."""
        return {"descriptors": np.stack(self.rows)}

    @staticmethod
    def items(arrays: Arrays) -> Any:
        """Return ``[n, descriptors]`` float32 as they stand in the files."""
        return torch.from_numpy(arrays["descriptors"])


class MolecularGraphs(Content):
    """Graphs of atoms and bonds, each bond in both directions with its kind one-hot: single, double, triple."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.edges: list[Any] = []
        self.kinds: list[Any] = []

    def add(self, line: Line) -> None:
        """Add a graph."""
        try:
            nodes, bonds, kinds = fs_mol_arrays(line.entry("graph"))
        except UserError as error:
            raise error if line.where in str(error) else UserError(f"{line.where} cannot be used: {error}") from None
        edges, kinds = both_ways(bonds, kinds)
        first = self.nodes[0].shape[1] if self.nodes else nodes.shape[1]
        if nodes.shape[1] != first:
            raise UserError(f"{line.where} has {nodes.shape[1]} features of an atom, the lines before have {first}")
        if self.kinds and kinds.shape[1] != self.kinds[0].shape[1]:
            known = self.kinds[0].shape[1]
            raise UserError(f"{line.where} has {kinds.shape[1]} kinds of bonds, the lines before have {known}")
        # FS-Mol's features of atoms are small whole numbers; as bytes they take a quarter
        small = nodes.astype(np.int8)
        self.nodes.append(small if (small == nodes).all() else nodes)
        self.edges.append(edges.astype(np.int32))
        self.kinds.append(kinds.astype(np.int8))

    def arrays(self) -> Arrays:
        """Return flat arrays of all nodes and edges."""
        return {
            "nodes": np.concatenate(self.nodes),
            "edges": np.concatenate(self.edges),
            "kinds": np.concatenate(self.kinds),
            "node_offsets": offsets_of([len(each) for each in self.nodes]),
            "edge_offsets": offsets_of([len(each) for each in self.edges]),
        }

    @staticmethod
    def items(arrays: Arrays) -> Any:
        """Return ``Graphs`` of any size."""
        names = ("nodes", "edges", "kinds", "node_offsets", "edge_offsets")
        return RaggedGraphs(*(torch.from_numpy(arrays[name]) for name in names))


def _equally_long(line: Line, key: str, values: Floats, length: int | None) -> int:
    if values.ndim != 1 or len(values) == 0 or length not in (None, len(values)):
        expected = "one at least" if length is None else f"{length}, as in the lines before"
        raise UserError(f"{line.where} has {key} of shape {list(values.shape)}, expected a list of numbers, {expected}")
    return len(values)
