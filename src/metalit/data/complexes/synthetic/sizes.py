"""How many clusters a synthetic set has, and how many complexes each of them."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from metalit.data.stream import Integers

TAIL = 1.5  # the exponent of the Pareto distribution
Size = Literal["tiny", "small", "pdbbind"]


class Part(NamedTuple):
    """The clusters of one part of MetaScore's rule.

    Attributes:
        clusters: number of clusters, >= 1.
        complexes: number of complexes of all of them together.
        smallest: number of complexes of the smallest cluster.
        largest: number of complexes that no cluster exceeds.
    """

    clusters: int
    complexes: int
    smallest: int
    largest: int


class Plan(NamedTuple):
    """The sizes of a synthetic set.

    Attributes:
        parts: training, middle and zero-shot clusters.
        residues: least and greatest number of residues of a pocket.
        atoms: least and greatest number of atoms of a ligand.
    """

    parts: tuple[Part, Part, Part]
    residues: tuple[int, int]
    atoms: tuple[int, int]


# Numbers of clusters and complexes of ``pdbbind`` are those of PDBbind v2020 as MetaScore divides it, with bounds of
# its rule; the largest training cluster, residues and atoms are guesses. The others are small for a CPU.
PLANS: dict[Size, Plan] = {
    "pdbbind": Plan(
        (Part(186, 15_810, 17, 1200), Part(153, 1574, 7, 16), Part(808, 1761, 1, 6)), residues=(24, 48), atoms=(12, 40)
    ),
    "small": Plan(
        (Part(80, 3200, 17, 160), Part(120, 1236, 7, 16), Part(60, 131, 1, 6)), residues=(6, 8), atoms=(8, 16)
    ),
    "tiny": Plan((Part(6, 120, 17, 30), Part(8, 80, 7, 16), Part(8, 20, 1, 6)), residues=(6, 8), atoms=(6, 10)),
}


def cluster_sizes(part: Part) -> Integers:
    """Return the sizes of the clusters of a part, ``[clusters]``, ascending: few large ones and many small ones.

    They are quantiles of a Pareto distribution above ``smallest``, scaled to the total and cut at ``largest``.
    """
    quantiles = (np.arange(part.clusters) + 0.5) / part.clusters
    tail = (1 - quantiles) ** (-1 / TAIL) - 1

    def sizes(scale: float) -> npt.NDArray[np.float64]:
        return np.minimum(part.largest, part.smallest + scale * tail)

    low, high = 0.0, 1e4
    for _ in range(100):  # bisection: the sum rises with the scale
        middle = (low + high) / 2
        low, high = (middle, high) if sizes(middle).sum() < part.complexes else (low, middle)
    exact = sizes(low)
    whole = np.floor(exact).astype(np.int64)
    missing = part.complexes - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1  # the largest fractions first
    return whole
