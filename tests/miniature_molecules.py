"""A writer of FS-Mol in miniature: the files, keys and types of the real one, without RDKit."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BITS, DESCRIPTORS, ATOM_FEATURES = 2048, 12, 32
FOLDERS = ("train", "valid", "test")


def write_fs_mol(root: Path, tasks: Sequence[int] = (8, 3, 4), molecules: int = 40) -> Path:
    """Write ``train``, ``valid`` and ``test`` with files ``CHEMBL<number>.jsonl.gz``, and the list of tasks.

    Tasks differ in size by a few molecules and in what makes a molecule active: one of a few substructures, each a set
    of bits of the fingerprint and an atom of its own in the graph. One more file in ``train`` is not on the list.

    Args:
        root: folder to write to; made if need be.
        tasks: of the three folders.
        molecules: of the smallest task.

    Returns:
        The folder.
    """
    listed: dict[str, list[str]] = {}
    number = 1000000
    for folder, count in zip(FOLDERS, tasks, strict=True):
        (root / folder).mkdir(parents=True)
        names = [f"CHEMBL{number + each}" for each in range(count)]
        for each, name in enumerate(names):
            write_task(root / folder / f"{name}.jsonl.gz", task(number + each, molecules + each % 3, name))
        listed[folder] = names
        number += count
    write_task(root / "train" / "CHEMBL9.jsonl.gz", task(9, 5, "CHEMBL9"))
    (root / "fsmol-0.1.json").write_text(json.dumps(listed))
    return root


def write_task(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write one file of molecules."""
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def task(seed: int, molecules: int, name: str) -> list[dict[str, Any]]:
    """Return the lines of a task, 40 % of them active."""
    wanted = seed % 3  # the substructure that makes a molecule active
    return [molecule([seed, each], wanted if each % 5 < 2 else (wanted + 1) % 3, each % 5 < 2, name)
            for each in range(molecules)]  # fmt: skip


def molecule(seed: Sequence[int], substructure: int, active: bool, name: str) -> dict[str, Any]:
    """Return one line: values of the assay are text, as they come from a table, all others are numbers."""
    draw = np.random.default_rng([*seed])
    bits = np.zeros(BITS, dtype=int)
    bits[draw.integers(0, BITS, size=40)] = draw.integers(1, 4, size=40)
    bits[100 * (1 + substructure) + np.arange(6)] = 1
    atoms = int(draw.integers(4, 9))
    features = np.eye(ATOM_FEATURES)[draw.integers(5, 10, size=atoms)]
    features[0] = np.eye(ATOM_FEATURES)[substructure]
    bonds = [[atom, atom + 1] for atom in range(atoms - 1)]
    # the mean of 40 actives and inactives is far from 0, as those of real descriptors
    descriptors = draw.normal(300.0, 20.0, size=DESCRIPTORS) + 10.0 * substructure
    log_value = float(draw.normal(6.5 if active else 4.5, 0.3))
    return {
        "SMILES": "C" * atoms,
        "Property": str(float(active)),
        "Assay_ID": name,
        "RegressionProperty": str(1e9 * 10**-log_value),
        "LogRegressionProperty": str(log_value),
        "Relation": "=",
        "AssayType": "B",
        "fingerprints": bits.tolist(),
        "descriptors": descriptors.tolist(),
        "graph": {
            "adjacency_lists": [bonds[1:], bonds[:1], []],
            "node_types": ["C"] * atoms,
            "node_features": features.tolist(),
        },
    }
