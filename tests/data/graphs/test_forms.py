"""The same graphs in each form give the same episodes; what a file may have or leave out."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch.utils._pytree import tree_leaves

from graph_files import FEATURES, KINDS, molecules, pyg_objects, write_edge_lists, write_fs_mol, write_json_lines
from metalit.data import TaskGraphs
from metalit.errors import UserError

ROWS = molecules()
SETTINGS = {"undirected": True, "shots": 4, "queries": 3}


def of_json_lines(folder):
    return TaskGraphs(str(write_json_lines(folder / "all.jsonl", ROWS)), **SETTINGS)


def of_compressed(folder):
    return TaskGraphs(str(write_json_lines(folder / "all.jsonl.gz", ROWS)), **SETTINGS)


def of_objects(folder):
    return TaskGraphs(graphs=pyg_objects(ROWS), **SETTINGS)


def of_edge_lists(folder):
    return TaskGraphs(str(write_edge_lists(folder / "tables", ROWS)), **SETTINGS)


def of_fs_mol(folder):
    columns = {"target": "RegressionProperty", "group": "group"}
    return TaskGraphs(str(write_fs_mol(folder / "fs_mol", ROWS)), columns=columns, **SETTINGS)


def of_a_pyg_file(folder):
    data = pytest.importorskip("torch_geometric.data", reason="needs metalit[graphs]")
    torch.save(pyg_objects(ROWS, data.Data), folder / "data.pt")
    return TaskGraphs(str(folder / "data.pt"), **SETTINGS)


def of_a_processed_file(folder):
    """As an ``InMemoryDataset`` leaves it: all graphs joined, and where each begins."""
    data = pytest.importorskip("torch_geometric.data", reason="needs metalit[graphs]")
    joined, slices = data.InMemoryDataset.collate(pyg_objects(ROWS, data.Data))
    torch.save((joined.to_dict(), slices, data.Data), folder / "data.pt")
    return TaskGraphs(str(folder / "data.pt"), **SETTINGS)


FORMS = [of_compressed, of_objects, of_edge_lists, of_a_pyg_file, of_a_processed_file]


def same(one, other):
    for found, expected in zip(tree_leaves(one), tree_leaves(other), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_episodes(form, tmp_path):
    data, expected = form(tmp_path), of_json_lines(tmp_path)
    for split in ("train", "val", "test"):
        same(data.episodes(split, 0, 4), expected.episodes(split, 0, 4))
        assert data.stores[split].example_names == expected.stores[split].example_names
        assert data.stores[split].task_names == expected.stores[split].task_names
    assert data.sizes() == {"inputs": FEATURES, "edge_inputs": KINDS, "outputs": 1}


def test_fs_mols_layout_gives_the_same_graphs(tmp_path):
    data, expected = of_fs_mol(tmp_path), of_json_lines(tmp_path)
    for found, own in zip(data.read()["train"], expected.read()["train"], strict=True):
        assert (found.task, found.target, found.name) == (own.task, str(own.target), own.name)
        torch.testing.assert_close(torch.from_numpy(found.nodes), torch.from_numpy(own.nodes))
        pairs = [
            sorted([*pair, *kind] for pair, kind in zip(g.edges, g.edge_features, strict=True)) for g in (found, own)
        ]
        assert pairs[0] == pairs[1]
    active = TaskGraphs(str(tmp_path / "fs_mol"), **SETTINGS)
    assert active.sizes()["outputs"] == 2
    assert active.found_targets().classes == ("false", "true")
    graphs = active.read()["train"]
    labels = active.load("train").targets.tolist()
    assert labels == [int(graph.target) for graph in graphs] == [int(g.target > 0) for g in expected.read()["train"]]


def test_folders_of_splits_divide_the_tasks(tmp_path):
    for split, some in {"train": ROWS[:27], "valid": ROWS[27:36], "test": ROWS[36:]}.items():
        write_fs_mol(tmp_path / split, some)
    data = TaskGraphs(str(tmp_path), **SETTINGS)
    assert {split: len(graphs) for split, graphs in data.read().items()} == {"train": 27, "val": 9, "test": 18}
    assert data.setting()["task_split"] == "as given by the graphs"
    by_seed = TaskGraphs(str(tmp_path), splits="seed", **SETTINGS)
    by_seed.read()
    assert by_seed.setting()["task_split"].startswith("by seed 0")


def test_support_and_query_share_no_group_and_padding_is_masked(tmp_path):
    data = of_json_lines(tmp_path)
    episode = data.episodes("train", 0, 8)
    store = data.stores["train"]
    rows = data.streams["train"](0, 8)
    for task in range(8):
        support, query = (part.x[task][part.mask[task] if part.mask is not None else slice(None)] for part in rows[:2])
        assert not set(store.groups[support]) & set(store.groups[query])
    x = episode.support.x
    assert x.nodes.shape[2] == episode.query.x.nodes.shape[2] == 8
    counts = x.node_mask.sum(-1)
    assert (counts >= 1).all()
    assert (x.nodes[~x.node_mask] == 0).all()
    assert (x.edges[~x.edge_mask] == 0).all()
    assert (x.edges < counts[..., None, None].clamp(min=1)).all()


def test_targets_are_standardised_by_training_tasks_and_reported_in_their_own_units(tmp_path):
    data = of_json_lines(tmp_path)
    values = torch.tensor([graph.target for graph in data.read()["train"]], dtype=torch.float64)
    store = data.load("train")
    torch.testing.assert_close(store.targets.mean(), torch.tensor(0.0, dtype=torch.float64))
    torch.testing.assert_close(store.targets.std(correction=0), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(data.own_units(store.targets)[:, 0], values)


def test_the_scale_of_a_training_is_taken_over(tmp_path):
    trained = of_json_lines(tmp_path)
    state = {"TaskGraphs": trained.state_dict()}
    rows = [{**row, "target": 10 * row["target"]} for row in ROWS]
    other = TaskGraphs(str(write_json_lines(tmp_path / "other.jsonl", rows)), splits="test", **SETTINGS)
    with pytest.raises(UserError, match="no training tasks to take the scale"):
        other.found_targets()
    before = other.episodes("test", 0, 2)
    other.take_over(state)
    after = other.episodes("test", 0, 2)
    assert (before.query.y - after.query.y).abs().max() > 0
    assert other.found_targets() == trained.found_targets()
    own = other.own_units(after.query.y)
    store = other.stores["test"]
    torch.testing.assert_close(own, other.own_units(store.targets[other.streams["test"](0, 2).query.x]).float())


def test_several_targets_texts_as_classes_and_unusual_names(tmp_path):
    several = [{**row, "target": [row["target"], 2.0 * number]} for number, row in enumerate(ROWS)]
    data = TaskGraphs(str(write_json_lines(tmp_path / "several.jsonl", several)), **SETTINGS)
    assert data.sizes()["outputs"] == 2
    assert data.episodes("train", 0, 2).support.y.shape == (2, 4, 2)
    named = [{**row, "y": ["low", "high"][row["target"] > 0]} for row in ROWS]
    for row in named:
        row["atoms"] = row.pop("nodes")
        del row["target"], row["edge_features"], row["name"]
    path = write_json_lines(tmp_path / "named.jsonl", named)
    data = TaskGraphs(str(path), columns={"nodes": "atoms"}, **SETTINGS)
    assert data.sizes() == {"inputs": FEATURES, "edge_inputs": 0, "outputs": 2}
    assert data.found_targets().classes == ("high", "low")
    assert data.metrics == ("accuracy", "average_precision", "delta_auprc")
    assert data.load("train").example_names[0].startswith("named.jsonl:")


def test_numbers_can_be_classes_and_graphs_without_target_are_left_out(tmp_path):
    rows = [{**row, "target": float(number % 3) if number else None} for number, row in enumerate(ROWS)]
    path = str(write_json_lines(tmp_path / "classes.jsonl", rows))
    data = TaskGraphs(path, kind="classification", **SETTINGS)
    assert data.found_targets().classes == ("0", "1", "2")
    assert data.metrics == ("accuracy",)
    data.read()
    assert data.setting()["graphs_without_target_left_out"] == 1
    assert TaskGraphs(path, **SETTINGS).sizes()["outputs"] == 1


def test_directed_edges_stay_as_they_are(tmp_path):
    row = {"task": "a", "target": 1, "nodes": [[1.0], [2.0]], "edges": [[0, 1], [1, 1]]}
    rows = [row, {**row, "target": 2}, {**row, "target": 3}]
    path = str(write_json_lines(tmp_path / "directed.jsonl", rows))
    as_given, both = (TaskGraphs(path, undirected=each, splits="test").read()["test"][0] for each in (False, True))
    assert as_given.edges.tolist() == [[0, 1], [1, 1]]
    assert both.edges.tolist() == [[0, 1], [1, 1], [1, 0]]  # a loop once


def test_objects_with_edges_without_features_in_one_number():
    graphs = [
        SimpleNamespace(
            x=torch.ones(2, 1), edge_index=torch.tensor([[0], [1]]), edge_attr=torch.tensor([0.5]), y=y, task="a"
        )
        for y in (0.1, 0.2, 0.3)
    ]
    data = TaskGraphs(graphs=graphs, splits="test")
    assert data.read()["test"][0].edge_features.tolist() == [[0.5]]
    assert data.read()["test"][0].name == "data.graphs:0"


def test_a_file_from_elsewhere_runs_no_code(tmp_path):
    pytest.importorskip("torch_geometric", reason="needs metalit[graphs]")

    class Harmful:
        def __reduce__(self):
            return (json.loads, ("1",))

    torch.save([Harmful()], tmp_path / "bad.pt")
    with pytest.raises(UserError, match=r"bad\.pt: it is no file of PyTorch Geometric's Data objects"):
        TaskGraphs(str(tmp_path / "bad.pt"), **SETTINGS).read()
