"""Random graphs with tasks and targets, written in each form that ``TaskGraphs`` reads."""

import csv
import gzip
import json
from types import SimpleNamespace

import numpy as np
import torch

FEATURES, KINDS = 4, 3  # length of a node's features, kinds of bonds


def molecules(tasks=6, each=9, seed=0):
    """Rows of the plain form: undirected edges once, one-hot kinds as features, a target that depends on the graph."""
    generator = np.random.default_rng(seed)
    rows = []
    for task in range(tasks):
        weight = generator.normal(size=FEATURES)
        for number in range(each):
            nodes = generator.integers(1, 7)
            features = generator.normal(size=(nodes, FEATURES)).round(3)
            edges = [[place, place + 1] for place in range(nodes - 1)]  # a path
            kinds = generator.integers(0, KINDS, len(edges))
            rows.append(
                {
                    "task": f"assay {task}",
                    "target": round(float(features.mean(0) @ weight), 4),
                    "nodes": features.tolist(),
                    "edges": edges,
                    "edge_features": np.eye(KINDS)[kinds].tolist(),
                    "group": f"scaffold {number // 2}",
                    "name": f"molecule {task}.{number}",
                }
            )
    return rows


def write_json_lines(path, rows):
    """One graph a line; compressed if the name ends so."""
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return path


def write_fs_mol(folder, rows):
    """A file for each task, in FS-Mol's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in dict.fromkeys(row["task"] for row in rows):
        lines = []
        for row in (row for row in rows if row["task"] == task):
            kinds = np.array(row["edge_features"]).reshape(-1, KINDS).argmax(1).tolist()
            lists = [
                [pair for pair, own in zip(row["edges"], kinds, strict=True) if own == kind] for kind in range(KINDS)
            ]
            graph = {"adjacency_lists": lists, "node_types": ["C"] * len(row["nodes"]), "node_features": row["nodes"]}
            active = {"Property": str(float(row["target"] > 0)), "RegressionProperty": str(row["target"])}
            lines.append({"SMILES": row["name"], **active, "Assay_ID": task, "graph": graph})
        write_json_lines(folder / f"{task}.jsonl.gz", lines)
    return folder


def pyg_objects(rows, kind=SimpleNamespace):
    """Objects with PyG's attributes."""
    return [
        kind(
            x=torch.tensor(row["nodes"]),
            edge_index=torch.tensor(row["edges"], dtype=torch.int64).reshape(-1, 2).T,
            edge_attr=torch.tensor(row["edge_features"]).reshape(-1, KINDS),
            y=torch.tensor([row["target"]], dtype=torch.float64),
            task=row["task"],
            group=row["group"],
            name=row["name"],
        )
        for row in rows
    ]


def write_edge_lists(folder, rows):
    """``graphs.csv``, ``nodes.csv`` and ``edges.csv``, with names of nodes."""
    folder.mkdir(parents=True, exist_ok=True)
    graphs, nodes, edges = [["graph", "task", "target", "group", "name"]], [], []
    nodes.append(["graph", "node", *(f"n{number}" for number in range(FEATURES))])
    edges.append(["graph", "source", "target", *(f"e{number}" for number in range(KINDS))])
    for number, row in enumerate(rows):
        graphs.append([f"g{number}", row["task"], row["target"], row["group"], row["name"]])
        nodes += [[f"g{number}", f"a{place}", *features] for place, features in enumerate(row["nodes"])]
        for (source, target), features in zip(row["edges"], row["edge_features"], strict=True):
            edges.append([f"g{number}", f"a{source}", f"a{target}", *features])
    for name, table in {"graphs": graphs, "nodes": nodes, "edges": edges}.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)
    return folder
