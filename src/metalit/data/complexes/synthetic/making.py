"""A synthetic set of complexes in the shape of PDBbind: clusters with a latent preference that affinities follow."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from metalit.data.complexes.files import Complex, write_complex
from metalit.data.complexes.synthetic.chemistry import Floats, complex_of, pocket, taste
from metalit.data.complexes.synthetic.sizes import PLANS, Plan, Size, cluster_sizes
from metalit.errors import at_least, check
from metalit.files import write_csv

# pK in PDBbind: mean and standard deviation, and the range that is measured
MEAN, SPREAD, LOWEST, HIGHEST = 6.4, 1.9, 2.0, 12.0
# standard deviations of the four parts of an affinity in units of SPREAD; their squares sum to 1
CLUSTER, SHARED, LATENT, NOISE = 0.45, 0.20, 0.80, 0.345
VISIBLE = 0.2  # share of the latent preference's variance that shows in the composition of the pocket


class Row(NamedTuple):
    """One complex with its line of the table.

    Attributes:
        name: its name, also that of its file.
        cluster: the cluster of similar proteins that it belongs to.
        affinity: pK.
        protein: its protein; a cluster has several.
        graphs: the complex itself.
    """

    name: str
    cluster: str
    affinity: float
    protein: str
    graphs: Complex


def make_synthetic(folder: str | Path, size: Size = "small", seed: int = 0) -> Path:
    """Write a synthetic set: ``complexes.csv``, and one file per complex in ``graphs``.

    Args:
        folder: where to write; made if it does not exist.
        size: ``small`` for minutes on a CPU, ``pdbbind`` for the numbers of clusters and complexes of PDBbind v2020.
        seed: the seed, >= 0; the set is a function of size and seed.

    Returns:
        The path of the table.
    """
    folder = Path(folder).expanduser()
    (folder / "graphs").mkdir(parents=True, exist_ok=True)
    rows = synthetic_rows(size, seed)
    for row in rows:
        write_complex(folder / "graphs" / f"{row.name}.npz", row.graphs)
    table = folder / "complexes.csv"
    lines = [(row.name, row.cluster, f"{row.affinity:.2f}", row.protein) for row in rows]
    write_csv(table, [("complex", "cluster", "affinity", "protein"), *lines])  # last: a table means a complete set
    return table


def synthetic_rows(size: Size = "small", seed: int = 0) -> list[Row]:
    """Return the complexes of a synthetic set, cluster after cluster."""
    check("size", size, size in PLANS, f"one of {', '.join(PLANS)}")
    at_least(0, seed=seed)
    plan = PLANS[size]
    sizes = np.concatenate([cluster_sizes(part) for part in plan.parts])
    clusters = [Cluster(seed, number, int(count), plan) for number, count in enumerate(sizes)]
    tastes = np.concatenate([cluster.tastes for cluster in clusters])
    mean, spread = tastes.mean(axis=0), tastes.std(axis=0)
    return [row for cluster in clusters for row in cluster.rows((cluster.tastes - mean) / spread)]


class Cluster:
    """The complexes of one cluster, random numbers and all.

    Args:
        seed: the seed of the set.
        number: the number of the cluster.
        count: how many complexes it has.
        plan: sizes of pockets and ligands.
    """

    def __init__(self, seed: int, number: int, count: int, plan: Plan) -> None:
        self.number = number
        # a generator of its own, so that a cluster does not depend on the sizes of others
        self.random = random = np.random.Generator(np.random.Philox(key=np.array([seed, number], dtype=np.uint64)))
        visible, hidden = random.normal(size=(2, 2))
        self.preference = np.sqrt(VISIBLE) * visible + np.sqrt(1 - VISIBLE) * hidden
        self.level = random.normal()
        site = pocket(random, visible, int(random.integers(*plan.residues, endpoint=True)))
        atoms = random.integers(*plan.atoms, endpoint=True, size=count)
        self.complexes = [complex_of(random, site, int(each)) for each in atoms]
        self.tastes = np.stack([taste(each) for each in self.complexes])

    def rows(self, tastes: Floats) -> list[Row]:
        """Return the complexes with their affinities, given their tastes ``[n, 3]`` in standard deviations."""
        count = len(tastes)
        latent = tastes[:, :2] @ self.preference / np.sqrt(2)
        noise = self.random.normal(size=count)
        units = CLUSTER * self.level + SHARED * tastes[:, 2] + LATENT * latent + NOISE * noise
        affinities = np.clip(MEAN + SPREAD * units, LOWEST, HIGHEST)
        proteins = self.random.integers(1 + count // 4, size=count)
        cluster = f"c{self.number:04d}"
        return [
            Row(f"{cluster}_{i:04d}", cluster, round(float(affinity), 2), f"{cluster}_p{protein}", graphs)
            for i, (affinity, protein, graphs) in enumerate(zip(affinities, proteins, self.complexes, strict=True))
        ]
