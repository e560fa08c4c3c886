"""Random pockets and ligands, and the numbers by which they bind in the synthetic set."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metalit.data.complexes.files import Complex

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ELEMENTS = ("C", "N", "O", "S", "F", "Cl", "P", "Br")
SHARES = np.array([0.56, 0.15, 0.16, 0.04, 0.03, 0.03, 0.02, 0.01])
AMINO_ACIDS = 20
BONDS = 3  # single, double, aromatic
# What an atom of each element is to a pocket, in two directions: polar against greasy, and light against heavy.
CHARACTER = np.array(
    [[-0.6, 0.0], [0.9, -0.5], [1.2, -0.2], [-0.3, 1.2], [-0.2, -1.5], [-0.8, 1.4], [1.5, 0.8], [-1.0, 1.8]]
)


class Pocket(NamedTuple):
    """The site that the proteins of a cluster share.

    Attributes:
        residues: ``[V]`` amino acid of each residue, 0..19.
        places: ``[V, 3]`` their coordinates in Å; the ligand lies around the origin.
        elements: ``[8]`` shares of the elements in the ligands that were made for it.
    """

    residues: Ints
    places: Floats
    elements: Floats


def pocket(random: np.random.Generator, visible: Floats, residues: int) -> Pocket:
    """Return the pocket of a cluster; its composition follows ``visible [2]``, which tells a part of its taste."""
    tilt = np.linspace(-1, 1, AMINO_ACIDS), np.cos(np.linspace(0, 3 * np.pi, AMINO_ACIDS))
    kinds = random.choice(AMINO_ACIDS, residues, p=softmax(visible[0] * tilt[0] + visible[1] * tilt[1]))
    directions = random.normal(size=(residues, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radii = random.uniform(4.5, 9.0, (residues, 1))
    elements = softmax(np.log(SHARES) + 0.3 * random.normal(size=len(ELEMENTS)))
    return Pocket(kinds, directions * radii, elements)


def complex_of(random: np.random.Generator, site: Pocket, atoms: int) -> Complex:
    """Return a ligand of so many atoms in a pocket that differs a little from that of the cluster."""
    mutated = random.random(len(site.residues)) < 0.05
    residues = np.where(mutated, random.integers(AMINO_ACIDS, size=len(site.residues)), site.residues)
    places = site.places + 0.3 * random.normal(size=site.places.shape)
    contacts = close_pairs(places, 7.0)
    lengths = np.linalg.norm(places[contacts[:, 0]] - places[contacts[:, 1]], axis=1)
    kinds = random.choice(len(ELEMENTS), atoms, p=site.elements)
    bonds, orders = random_bonds(random, atoms)
    return Complex(
        residues=np.eye(AMINO_ACIDS, dtype=np.float32)[residues],
        residue_places=places.astype(np.float32),
        contacts=contacts,
        contact_features=(lengths[:, None] / 10).astype(np.float32),
        atoms=atom_features(kinds, bonds, orders),
        atom_places=(ligand_places(random, bonds, atoms)).astype(np.float32),
        bonds=np.concatenate([bonds, bonds[:, ::-1]]),
        bond_features=np.eye(BONDS, dtype=np.float32)[np.tile(orders, 2)],
    )


def random_bonds(random: np.random.Generator, atoms: int) -> tuple[Ints, Ints]:
    """Return bonds ``[m, 2]`` of a random tree with a few rings, each in one direction, and their orders ``[m]``."""
    children = np.arange(1, atoms)
    parents = np.maximum(children - 1 - random.integers(0, 3, atoms - 1), 0)
    tree = np.stack([parents, children], axis=1)
    starts = np.arange(max(atoms - 5, 0))
    rings = starts[random.random(len(starts)) < 0.15]
    bonds = np.concatenate([tree, np.stack([rings, rings + 5], axis=1)])
    orders = np.concatenate([random.choice(2, len(tree), p=[0.8, 0.2]), np.full(len(rings), 2)])
    unique = np.unique(bonds, axis=0, return_index=True)[1]
    return bonds[np.sort(unique)], orders[np.sort(unique)]


def ligand_places(random: np.random.Generator, bonds: Ints, atoms: int) -> Floats:
    """Return coordinates ``[A, 3]`` in Å: bonds of 1.5 Å in random directions, the ligand near the origin."""
    steps = random.normal(size=(atoms, 3))
    steps *= 1.5 / np.linalg.norm(steps, axis=1, keepdims=True)
    places = np.zeros((atoms, 3))
    for parent, child in bonds[: atoms - 1]:  # the tree comes first
        places[child] = places[parent] + steps[child]
    centred: Floats = places - places.mean(axis=0) + random.normal(size=3)
    return centred


def atom_features(kinds: Ints, bonds: Ints, orders: Ints) -> npt.NDArray[np.float32]:
    """Return ``[A, 10]``: the element one-hot, the number of bonds over 4, and whether the atom is aromatic."""
    degree = np.bincount(bonds.ravel(), minlength=len(kinds)) / 4
    aromatic = np.zeros(len(kinds))
    aromatic[bonds[orders == BONDS - 1].ravel()] = 1
    return np.concatenate([np.eye(len(ELEMENTS))[kinds], np.stack([degree, aromatic], axis=1)], axis=1).astype("f4")


def close_pairs(places: Floats, within: float) -> Ints:
    """Return the ordered pairs ``[m, 2]`` of different points that are at most ``within`` Å apart."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return np.argwhere(distances <= within)


def taste(one: Complex) -> Floats:
    """Return ``[3]`` what decides how a complex binds.

    The first two are sums of the atoms' characters, weighted by their contacts: what they are worth differs between
    clusters. The third counts complementary contacts of residue and atom, worth the same everywhere.
    """
    kinds = one.atoms[:, : len(ELEMENTS)].argmax(axis=1)
    neighbours = np.zeros((len(kinds), 2))
    np.add.at(neighbours, one.bonds[:, 1], CHARACTER[kinds[one.bonds[:, 0]]])
    degree = np.maximum(np.bincount(one.bonds[:, 1], minlength=len(kinds)), 1)[:, None]
    character = np.tanh(CHARACTER[kinds] + 0.5 * neighbours / degree)
    near = np.exp(-((one.between() / 5.0) ** 2))  # [V, A]
    polar_residue = np.linspace(-1, 1, AMINO_ACIDS)[one.residues.argmax(axis=1)]
    complementary = polar_residue @ near @ character[:, 0]
    return np.append(near.sum(axis=0) @ character, complementary)


def softmax(logits: Floats) -> Floats:
    """Return probabilities ``[n]``."""
    positive = np.exp(logits - logits.max())
    shares: Floats = positive / positive.sum()
    return shares
