"""Complexes of different sizes as flat arrays, padded when an episode is made."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metalit.data.cache import Arrays
from metalit.data.complexes.files import FEATURES, Complex
from metalit.data.store import Examples
from metalit.data.stream import Integers
from metalit.episode import Complexes, Graphs
from metalit.functional.batches import padded

# arrays of a file whose rows are counted by their first axis
COUNTED = ("residues", "contacts", "contact_features", "atoms", "bonds", "bond_features")


class Ragged(NamedTuple):
    """Sequences of different lengths.

    Attributes:
        values: ``[sum L_i, *features]``, one sequence behind the other.
        offsets: ``[n + 1]`` int64; sequence i has the rows ``offsets[i] .. offsets[i + 1] - 1``.
    """

    values: Tensor
    offsets: Tensor

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the lengths of the sequences ``[...]``."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def padded(self, rows: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Return the sequences ``[...]`` as ``[..., length, *features]``, with the mask ``[..., length]``."""
        place = torch.arange(length, device=rows.device)
        mask = place < self.lengths(rows).unsqueeze(-1)
        return self.at(self.offsets[rows].unsqueeze(-1) + place, mask), mask

    def at(self, places: Tensor, mask: Tensor) -> Tensor:
        """Return the values at ``places [...]``, 0 where the mask ``[...]`` is False."""
        if not len(self.values):
            return self.values.new_zeros(*places.shape, *self.values.shape[1:])
        found = self.values[places.where(mask, 0)]
        return found.masked_fill(~mask.reshape(*mask.shape, *[1] * (found.dim() - mask.dim())), 0)


class RaggedComplexes(Examples):
    """Complexes without padding. Selections get the sizes of their largest complex, rounded up to multiples of 8.

    Args:
        arrays: those of ``flat_arrays``, as tensors.
    """

    dtype = torch.float32

    def __init__(self, arrays: dict[str, Tensor]) -> None:
        self.arrays = arrays
        self.ragged = {name: Ragged(arrays[name], arrays[f"{name}_offsets"]) for name in (*COUNTED, "distances")}
        offsets = arrays["residues_offsets"]
        self.shape, self.device = torch.Size([len(offsets) - 1]), offsets.device

    @classmethod
    def of(cls, complexes: Sequence[Complex]) -> "RaggedComplexes":
        """Return complexes that were read one by one, all with features of the same lengths."""
        return cls.from_arrays(flat_arrays(complexes))

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "RaggedComplexes":
        """Return the complexes in the arrays of ``flat_arrays``."""
        return cls({name: torch.from_numpy(array) for name, array in arrays.items()})

    def widths(self) -> tuple[int, ...]:
        """Return the lengths of the features of residues, contacts, atoms and bonds."""
        return tuple(self.arrays[name].shape[1] for name in FEATURES)

    def index_select(self, dim: int, rows: Tensor) -> Complexes:
        """Return the complexes ``[m]``."""
        return self.take(rows)

    def take(self, rows: Tensor) -> Complexes:
        """Return the complexes ``[...]``."""
        return self.parts(rows)[0]

    def parts(self, *rows: Tensor) -> list[Complexes]:
        """Return several selections of complexes, padded to the same sizes."""
        rows = tuple(each.to(self.device) for each in rows)
        both = torch.cat([each.flatten() for each in rows])
        sizes = {name: padded(int(self.ragged[name].lengths(both).max())) for name in COUNTED}
        return [self._padded(each, sizes) for each in rows]

    def selected(self, rows: Integers) -> "RaggedComplexes":
        """Return these complexes, ``[m]``, in that order."""
        chosen = torch.from_numpy(rows).to(self.device)
        arrays = {}
        for name, ragged in self.ragged.items():
            lengths = ragged.lengths(chosen)
            offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
            shift = (ragged.offsets[chosen] - offsets[:-1]).repeat_interleave(lengths)
            arrays[name] = ragged.values[torch.arange(int(offsets[-1]), device=self.device) + shift]
            arrays[f"{name}_offsets"] = offsets
        return RaggedComplexes(arrays)

    def to(self, device: torch.device) -> "RaggedComplexes":
        """Return the complexes on another device."""
        return RaggedComplexes({name: array.to(device) for name, array in self.arrays.items()})

    def _padded(self, rows: Tensor, sizes: dict[str, int]) -> Complexes:
        pocket = self._graphs(rows, sizes, "residues", "contacts", "contact_features")
        ligand = self._graphs(rows, sizes, "atoms", "bonds", "bond_features")
        both = pocket.node_mask.unsqueeze(-1) & ligand.node_mask.unsqueeze(-2)
        # a row of distances for each residue, as long as the ligand has atoms
        residue = torch.arange(sizes["residues"], device=self.device).unsqueeze(-1)
        atom = torch.arange(sizes["atoms"], device=self.device)
        first, atoms = self.ragged["distances"].offsets[rows], self.ragged["atoms"].lengths(rows)
        places = first[..., None, None] + residue * atoms[..., None, None] + atom
        return Complexes(pocket, ligand, self.ragged["distances"].at(places, both))

    def _graphs(self, rows: Tensor, sizes: dict[str, int], nodes: str, edges: str, features: str) -> Graphs:
        node_values, node_mask = self.ragged[nodes].padded(rows, sizes[nodes])
        edge_values, edge_mask = self.ragged[edges].padded(rows, sizes[edges])
        edge_features, _ = self.ragged[features].padded(rows, sizes[edges])
        return Graphs(node_values, edge_values.to(torch.int64), edge_features, node_mask, edge_mask)


def flat_arrays(complexes: Sequence[Complex]) -> Arrays:
    """Return complexes as flat arrays with their offsets: float32, ends of edges int32, offsets int64."""
    arrays: Arrays = {}
    for name in COUNTED:
        parts = [getattr(each, name) for each in complexes]
        arrays[name] = np.concatenate(parts).astype(np.int32 if name in ("contacts", "bonds") else np.float32)
        arrays[f"{name}_offsets"] = _offsets([len(part) for part in parts])
    distances = [each.between().ravel() for each in complexes]
    arrays["distances"] = np.concatenate(distances).astype(np.float32)
    arrays["distances_offsets"] = _offsets([len(part) for part in distances])
    return arrays


def _offsets(lengths: Sequence[int]) -> Integers:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
