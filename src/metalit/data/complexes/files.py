"""One protein-ligand complex as a file: the graph of its pocket, the graph of its ligand, and their coordinates.

The file is NumPy's ``.npz`` with these arrays, for V residues and A atoms, at least one of each, with C contacts and
M bonds, which may be none:

    residues          [V, F] float   features of the residues of the pocket
    residue_places    [V, 3] float   their coordinates in Å
    contacts          [C, 2] int     pairs of neighbouring residues, in 0..V-1, in both directions
    contact_features  [C, D] float
    atoms             [A, G] float   features of the atoms of the ligand
    atom_places       [A, 3] float   their coordinates in Å
    bonds             [M, 2] int     pairs of bonded atoms, in 0..A-1, in both directions
    bond_features     [M, H] float
    distances         [V, A] float   Å; optional, e.g. the least distance of any two atoms of residue and ligand

Without ``distances`` they are those of the coordinates; with them the coordinates may be left out.
"""

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metalit.errors import UserError

Array = npt.NDArray[Any]
# the axes of each array: V, C, A, M are counts, a number is a length, others are numbers of features
AXES = {
    "residues": "VF",
    "residue_places": "V3",
    "contacts": "C2",
    "contact_features": "CD",
    "atoms": "AG",
    "atom_places": "A3",
    "bonds": "M2",
    "bond_features": "MH",
    "distances": "VA",
}
OPTIONAL = ("residue_places", "atom_places", "distances")
FEATURES = ("residues", "contact_features", "atoms", "bond_features")


class Complex(NamedTuple):
    """A protein-ligand complex; see the top of this file for shapes and units."""

    residues: Array
    contacts: Array
    contact_features: Array
    atoms: Array
    bonds: Array
    bond_features: Array
    residue_places: Array | None = None
    atom_places: Array | None = None
    distances: Array | None = None

    def between(self) -> Array:
        """Return the distances ``[V, A]`` in Å between residues and atoms."""
        if self.distances is not None:
            return self.distances
        assert self.residue_places is not None and self.atom_places is not None  # ``checked`` sees to it
        found: Array = np.linalg.norm(self.residue_places[:, None] - self.atom_places[None], axis=-1)
        return found

    def widths(self) -> tuple[int, ...]:
        """Return the numbers of features of residues, contacts, atoms and bonds."""
        return tuple(getattr(self, name).shape[1] for name in FEATURES)


def read_complex(path: Path) -> Complex:
    """Return the complex in a file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no such file, or its arrays do not fit together.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give each complex of the table its graphs (data.graphs)")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in AXES if name in file}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path} is not an npz file of arrays: {error}") from None
    return checked(arrays, path)


def write_complex(path: Path, one: Complex) -> None:
    """Write a complex."""
    # uncompressed: a few kB of numbers that are hardly alike
    np.savez(path, allow_pickle=False, **{name: value for name, value in one._asdict().items() if value is not None})


def checked(arrays: dict[str, Array], path: Path) -> Complex:
    """Return the arrays of a file as a complex.

    Raises:
        UserError: an array is missing, has a wrong shape, a number that is not finite, or an index out of range.
    """
    missing = [name for name in AXES if name not in arrays and name not in OPTIONAL]
    if "distances" not in arrays:
        missing += [name for name in ("residue_places", "atom_places") if name not in arrays]
    if missing:
        raise UserError(f"{path} has no {' and no '.join(missing)}: docs/guide/metascore.md lists the arrays of a file")
    check_shapes(arrays, path)
    for name, of in (("contacts", "residues"), ("bonds", "atoms")):
        check_indices(name, arrays[name], of, len(arrays[of]), path)
    for name in arrays.keys() - {"contacts", "bonds"}:
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: {name} holds numbers that are not finite")
    return Complex(**arrays)


def check_shapes(arrays: dict[str, Array], path: Path) -> None:
    """Raise a ``UserError`` if the axes of a file's arrays do not fit together."""
    sizes = {"3": 3, "2": 2}
    for name, axes in AXES.items():
        shape = arrays[name].shape if name in arrays else None
        if shape is None:
            continue
        right = len(shape) == len(axes) and all(
            sizes.setdefault(axis, length) == length for axis, length in zip(axes, shape, strict=True)
        )
        if not right or (axes[0] in "VA" and shape[0] == 0):
            expected = ", ".join(str(sizes.get(axis, axis)) for axis in axes)
            raise UserError(
                f"{path}: {name} has shape {list(shape)}, expected [{expected}], with at least one residue and atom"
            )
        if not np.issubdtype(arrays[name].dtype, np.number):
            raise UserError(f"{path}: {name} holds {arrays[name].dtype}, expected numbers")


def check_indices(name: str, pairs: Array, of: str, count: int, path: Path) -> None:
    """Raise a ``UserError`` if an edge has an end that does not exist."""
    if not np.issubdtype(pairs.dtype, np.integer) and pairs.size:
        raise UserError(f"{path}: {name} holds {pairs.dtype}, expected whole numbers")
    wrong = np.argwhere((pairs < 0) | (pairs >= count))
    if len(wrong):
        row = int(wrong[0, 0])
        raise UserError(f"{path}: {name}[{row}] is {pairs[row].tolist()}, expected {of} 0 to {count - 1}")
