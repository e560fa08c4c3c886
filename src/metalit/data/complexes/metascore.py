"""Protein-ligand affinities, with clusters of similar proteins as tasks."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metalit.data.cache import Arrays, cached_arrays, fingerprint
from metalit.data.columns import Columns, check_columns
from metalit.data.complexes.division import TestClusters, group_of_split, groups_of_clusters
from metalit.data.complexes.files import FEATURES, Complex, read_complex
from metalit.data.complexes.listing import OF_COMPLEXES, Listed, read_listing
from metalit.data.complexes.ragged import RaggedComplexes, flat_arrays
from metalit.data.complexes.synthetic import Size, make_synthetic
from metalit.data.stream import Integers, Split
from metalit.data.task_store import TaskStore
from metalit.data.tasks import TaskDataModule
from metalit.errors import UserError, at_least, check

VERSION = "complexes 1"  # of the cache; a new one whenever files are read differently


class MetaScore(TaskDataModule):
    """Affinities of protein-ligand complexes; a task is a cluster of similar proteins (docs/guide/metascore.md).

    A table names the complexes with their cluster and affinity, and a file holds the graphs of each
    (``metalit.data.complexes.files``). Clusters of 17 complexes or more are for training, those of 7 to 16 for
    validation and the test with adaptation, and smaller ones are the zero-shot group, which is tested apart.

    Args:
        file: the table, CSV.
        graphs: folder of the files of complexes; default: ``graphs`` beside the table.
        columns: columns of the table with unusual names, by meaning: complex, cluster, affinity, group, graphs.
        by_group: never have the same value of the table's group column in support and query, such as the protein.
        train_size: clusters of at least so many complexes are for training.
        val_size: smaller clusters than this are the zero-shot group.
        test_share: share of the clusters between, in [0, 1), that are for the test with adaptation; chosen by ``seed``.
        test_clusters: which clusters the test split has: ``adapted`` or ``zero_shot``.
        synthetic: make a synthetic set of that size if there is no table; None never does.
        **tasks: the settings of ``TaskDataModule``.

    Raises:
        SettingError: a number is out of range.
    """

    sized = ("residue_inputs", "contact_inputs", "atom_inputs", "bond_inputs")
    metrics = ("pearson", "spearman", "rmse", "mse")

    def __init__(
        self,
        file: str = "data/metascore/complexes.csv",
        graphs: str | None = None,
        columns: dict[str, str] | None = None,
        by_group: bool = False,
        train_size: int = 17,
        val_size: int = 7,
        test_share: float = 0.5,
        test_clusters: TestClusters = "adapted",
        synthetic: Size | None = None,
        **tasks: Any,
    ) -> None:
        super().__init__(**tasks)
        at_least(2, val_size=val_size)
        check("train_size", train_size, train_size > val_size, f"more than val_size, {val_size}")
        check("test_share", test_share, 0 <= test_share < 1, "a number in [0, 1)")
        self.file = Path(file).expanduser()
        self.graphs = self.file.parent / "graphs" if graphs is None else Path(graphs).expanduser()
        self.columns: Columns = check_columns(columns, OF_COMPLEXES)
        self.by_group, self.train_size, self.val_size = by_group, train_size, val_size
        self.test_share, self.test_clusters, self.synthetic = test_share, test_clusters, synthetic
        self._read: tuple[list[Listed], RaggedComplexes] | None = None

    def prepare_data(self) -> None:
        """Make the synthetic set, if asked for, and read all files, in one process per machine."""
        self.complexes()

    def sizes(self) -> dict[str, int]:
        """Return the lengths of the features of residues, contacts, atoms and bonds."""
        return dict(zip(self.sized, self.complexes()[1].widths(), strict=True))

    def complexes(self) -> tuple[list[Listed], RaggedComplexes]:
        """Return the lines of the table, and the graphs of its complexes in the same order."""
        if self._read is None:
            if self.synthetic is not None and not self.file.exists():
                make_synthetic(self.file.parent, self.synthetic)
            needed = ["complex", "cluster", "affinity", *(["group"] if self.by_group else [])]
            lines = read_listing(self.file, self.graphs, self.columns, needed)
            self._read = lines, RaggedComplexes.from_arrays(self._arrays(lines))
        return self._read

    def load(self, split: Split) -> TaskStore:
        """Return the complexes of a split, sorted by cluster."""
        lines, complexes = self.complexes()
        sizes = Counter(line.cluster for line in lines)
        groups = groups_of_clusters(sizes, self.train_size, self.val_size, self.test_share, self.seed)
        group = group_of_split(split, self.test_clusters)
        if not groups[group]:
            found = ", ".join(f"{len(names)} {name}" for name, names in groups.items())
            raise UserError(
                f"{self.file} has no clusters for the {group} group, only {found}: change data.train_size, "
                "data.val_size or data.test_share"
            )
        place = {name: number for number, name in enumerate(groups[group])}
        rows = sorted(
            (row for row, line in enumerate(lines) if line.cluster in place), key=lambda row: place[lines[row].cluster]
        )
        chosen = [lines[row] for row in rows]
        return TaskStore(
            complexes.selected(np.array(rows, dtype=np.int64)),
            torch.tensor([[line.affinity] for line in chosen], dtype=torch.float64),
            np.array([sizes[name] for name in groups[group]], dtype=np.int64),
            groups[group],
            numbered([line.group for line in chosen]) if self.by_group else None,
            [line.name for line in chosen],
        )

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: the group of test clusters, and the rule behind it."""
        rule = {name: getattr(self, name) for name in ("test_clusters", "train_size", "val_size", "test_share")}
        return {**super().setting(), **rule, "by_group": self.by_group}

    def _arrays(self, lines: list[Listed]) -> Arrays:
        check_files(self.file, lines)
        files = [line.file for line in lines]
        cache = self.file.parent / "metalit-cache" / f"{self.file.stem}.npz"
        return cached_arrays(
            cache, fingerprint(VERSION, self.file.parent, files), lambda: flat_arrays(read_complexes(files))
        )


def check_files(table: Path, lines: list[Listed]) -> None:
    """Raise a ``FileNotFoundError`` that names the first complex of a table without a file."""
    if missing := [line for line in lines if not line.file.is_file()]:
        raise FileNotFoundError(
            f"{table}, line {missing[0].line}: there is no file {missing[0].file} for the complex {missing[0].name} "
            f"({len(missing)} of {len(lines)} are missing): write it, or say where files are by data.graphs"
        )


def read_complexes(files: list[Path]) -> list[Complex]:
    """Return the complexes in files, whose features must have the same lengths in all.

    Raises:
        FileNotFoundError: one of the files does not exist.
        UserError: one of the files is damaged, or has features of other lengths than the first.
    """
    found = [read_complex(file) for file in files]
    for file, each in zip(files, found, strict=True):
        if each.widths() != found[0].widths():
            described = ", ".join(FEATURES)
            raise UserError(
                f"{file} has {each.widths()} features of {described}, but {files[0]} has {found[0].widths()}: write "
                "all complexes with the same features"
            )
    return found


def numbered(names: list[str]) -> Integers:
    """Return a number for each name, the same for equal names; an empty one is a name of its own at each place."""
    own = [name or f"\0{place}" for place, name in enumerate(names)]
    return np.unique(np.array(own), return_inverse=True)[1].astype(np.int64)
