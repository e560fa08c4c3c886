"""What is wrong with files of graphs is one message that names the file, the line and the reason."""

import gzip
import json
import math
import re
from types import SimpleNamespace

import pytest
import torch

from commands import write_yaml
from graph_files import molecules, write_edge_lists, write_json_lines
from metalit.data import TaskGraphs
from metalit.errors import SettingError, UserError
from metalit.main import main

GOOD = molecules(tasks=3, each=4)
GRAPH = {"task": "a", "target": 1.0, "nodes": [[0.0] * 4, [1.0] * 4], "edges": [[0, 1]], "edge_features": [[1, 0, 0]]}


def without(name):
    return {key: value for key, value in GRAPH.items() if key != name}


def line(value):
    """A writer of a file with twelve good lines and this one."""

    def write(root):
        write_json_lines(root / "a.jsonl", GOOD)
        with (root / "a.jsonl").open("a") as file:
            file.write(value if isinstance(value, str) else json.dumps(value))
        return root / "a.jsonl"

    return write


def graph(**changes):
    return line({**GRAPH, **changes})


def raw(content, name="a.jsonl"):
    def write(root):
        (root / name).write_bytes(content)
        return root / name

    return write


def cut_gzip(root):
    path = write_json_lines(root / "a.jsonl.gz", GOOD)
    path.write_bytes(path.read_bytes()[:-40])
    return path


def tables(name, *rows, replace=None):
    """A writer of three good tables, with rows more in one, or one text replaced."""

    def write(root):
        folder = write_edge_lists(root / "tables", GOOD)
        text = (folder / f"{name}.csv").read_text()
        if replace:
            assert replace[0] in text
            text = text.replace(*replace, 1)
        (folder / f"{name}.csv").write_text(text + "".join(f"{row}\n" for row in rows))
        return folder

    return write


def folder_without(name):
    def write(root):
        folder = write_edge_lists(root / "tables", GOOD)
        (folder / name).unlink()
        return folder

    return write


ONE_CLASS = [{**row, "target": "same"} for row in GOOD]
ONE_NUMBER = [{**row, "target": 3.5} for row in GOOD]
TWO_SPLITS = [{**row, "split": "train" if place % 2 else "test"} for place, row in enumerate(GOOD)]
HALF_SPLIT = [{**row, "split": "train" if place < 6 else None} for place, row in enumerate(GOOD)]
MOLECULE = {"adjacency_lists": [[[0, 1]], [], []], "node_features": [[1], [2]]}
FS_MOL = {"SMILES": "CC", "Property": "1.0", "graph": MOLECULE}

BAD = {
    "empty file": (raw(b""), r"a\.jsonl has no graphs"),
    "blank lines": (raw(b"\n\n"), r"a\.jsonl has no graphs"),
    "broken JSON": (line('{"nodes": [[1'), r"a\.jsonl, line 13: it is not JSON"),
    "JSON of a list": (line([1, 2]), r"a\.jsonl, line 13: it is \[1, 2\], expected a JSON object"),
    "deep JSON": (line("[" * 100_000), r"a\.jsonl, line 13: it is not JSON"),
    "UTF-16": (raw("{}\n".encode("utf-16")), r"a\.jsonl, line 1: it is not text in UTF-8"),
    "no gzip": (raw(b"{}", "a.jsonl.gz"), r"a\.jsonl\.gz, after line 0: it is not a whole gzip file"),
    "cut gzip": (cut_gzip, r"a\.jsonl\.gz, after line \d+: it is not a whole gzip file"),
    "another ending": (raw(b"{}", "a.txt"), r"file is .*a\.txt, expected a file of graphs \(\.jsonl"),
    "no file": (lambda root: root / "b.jsonl", r"file is .*b\.jsonl, expected .*there is nothing of that name"),
    "empty folder": (lambda root: root, r"expected a file of graphs .*; it has nothing"),
    "no nodes": (graph(nodes=[]), r"line 13: it has no node; a graph needs at least one"),
    "nodes missing": (line(without("nodes")), r"line 13: it has no nodes, only task, target, edges"),
    "edges missing": (line(without("edges")), r"line 13: it has no edges, only task"),
    "no features": (graph(nodes=[[], []]), r"line 13: its nodes have no features"),
    "ragged features": (graph(nodes=[[1, 2, 3, 4], [1, 2]]), r"line 13: its node 1 has 2 features, its node 0 has 4"),
    "words as features": (graph(nodes=[[1, 2, 3, "C"], [0] * 4]), r"the features of its node 0 have 'C', expected"),
    "null as feature": (graph(nodes=[[1, 2, 3, None], [0] * 4]), r"the features of its node 0 have nan, expected"),
    "one number per node": (graph(nodes=[1, 2]), r"the features of its node 0 are 1, expected a list of numbers"),
    "number as nodes": (graph(nodes=3), r"the features of its nodes are 3, expected a list of numbers for each node"),
    "NaN in nodes": (graph(nodes=[[0] * 4, [1, math.nan, 1, 1]]), r"the features of its node 1 have nan, expected"),
    "infinite": (graph(nodes=[[0] * 4, [1, math.inf, 1, 1]]), r"the features of its node 1 have inf, expected"),
    "beyond float32": (graph(nodes=[[0] * 4, [1, 1e300, 1, 1]]), r"the features of its node 1 have inf, expected"),
    "NaN in edges": (graph(edge_features=[[math.nan, 0, 0]]), r"the features of its edge 0 have nan, expected"),
    "beyond the nodes": (graph(edges=[[0, 2]]), r"line 13: its edge 0 is \[0, 2\], but it has 2 nodes, 0 to 1"),
    "below the nodes": (graph(edges=[[-1, 0]]), r"line 13: its edge 0 is \[-1, 0\], but it has 2 nodes, 0 to 1"),
    "one node": (graph(nodes=[[1] * 4]), r"line 13: its edge 0 is \[0, 1\], but it has one node, 0"),
    "huge node number": (graph(edges=[[0, 10**30]]), r"line 13: one of its edges is \[0, 10+\], expected pairs"),
    "three ends": (graph(edges=[[0, 1, 1]]), r"line 13: one of its edges is \[0, 1, 1\], expected pairs"),
    "ends of unequal number": (graph(edges=[[0, 1], [1]]), r"line 13: one of its edges is \[1\], expected pairs"),
    "fractions as ends": (graph(edges=[[0, 1.5]]), r"line 13: one of its edges is \[0, 1\.5\], expected pairs"),
    "edges as text": (graph(edges="0-1"), r"line 13: its edges are '0-1', expected a list of pairs"),
    "too few edge features": (graph(edge_features=[]), r"line 13: it has features of 0 edges, but 1 edges"),
    "other node length": (
        graph(nodes=[[1] * 5, [0] * 5]),
        r"a\.jsonl:13: its nodes have 5 features, those of molecule 0\.0 have 4; all graphs need the same",
    ),
    "other edge length": (graph(edge_features=[[1, 0]]), r"a\.jsonl:13: its edges have 2 features, those of molecule"),
    "text as number": (graph(target="high"), r"kind is regression, expected classification: there are targets that"),
    "infinite target": (graph(target=math.inf), r"a\.jsonl:13: its target is inf, expected a finite number"),
    "two numbers": (graph(target=[1, 2], task="b"), r"a\.jsonl:13: the length of its target is 2, expected 1"),
    "list as task": (graph(task=["a"]), r"line 13: its task is \['a'\], expected the name or number of one task"),
    "unknown split": (graph(split="later"), r"line 13: 'later' is no split"),
    "no targets": (raw(json.dumps(without("target")).encode()), r"a\.jsonl has no graph with a target"),
    "one number as target": (
        lambda root: write_json_lines(root / "a.jsonl", ONE_NUMBER),
        r"all other graphs of training tasks have the same target",
    ),
    "one class": (
        lambda root: write_json_lines(root / "a.jsonl", ONE_CLASS),
        r"kind is regression, expected classification",
    ),
    "task in two splits": (
        lambda root: write_json_lines(root / "a.jsonl", TWO_SPLITS),
        r"molecule 0\.1: its task assay 0 is in two splits, test \(molecule 0\.0\) and train",
    ),
    "some without split": (
        lambda root: write_json_lines(root / "a.jsonl", HALF_SPLIT),
        r"it has no split, and others have",
    ),
    "FS-Mol without graph": (line({**FS_MOL, "graph": {}}), r"its graph has another form than FS-Mol's"),
    "FS-Mol's bond": (
        line({**FS_MOL, "graph": {**MOLECULE, "adjacency_lists": [[[0, 5]]]}}),
        r"line 13: its edge 0 is \[0, 5\], but it has 2 nodes",
    ),
    "FS-Mol's lists": (
        line({**FS_MOL, "graph": {**MOLECULE, "adjacency_lists": [3]}}),
        r"its adjacency_lists are \[3\], expected a list of pairs for each kind of bond",
    ),
    "FS-Mol's Property": (line({**FS_MOL, "Property": "high"}), r"line 13: its Property is 'high', expected 0 or 1"),
    "table missing": (folder_without("edges.csv"), r"it has no edges\.csv"),
    "no such node": (tables("edges", "g0,a0,a99,1,0,0"), r"edges\.csv, line \d+: its target is a99, but its graph has"),
    "no such graph": (tables("nodes", "g99,a0,1,1,1,1"), r"nodes\.csv, line \d+: there is no graph g99 in graphs\.csv"),
    "node twice": (tables("nodes", "g0,a0,1,1,1,1"), r"nodes\.csv, line \d+: its graph has the node a0 already"),
    "word among numbers": (tables("nodes", "g0,b,1,C,1,1"), r"nodes\.csv, line \d+: its n1 is 'C', expected a number"),
    "missing cells": (tables("nodes", "g0,b,1"), r"nodes\.csv, line \d+: its n1 is None, expected a number"),
    "NaN in a table": (tables("edges", "g0,a0,a0,1,nan,0"), r"edges\.csv, line \d+: its e1 is nan, expected a finite"),
    "graph twice": (tables("graphs", "g0,x,1,,"), r"graphs\.csv, line 14: the graph g0 is there already, in line 2"),
    "graph without nodes": (tables("graphs", "g99,x,1,,"), r"graphs\.csv, line 14: it has no node"),
    "graph without task": (tables("graphs", "g99,,1,,"), r"graphs\.csv, line 14: its task is empty"),
    "no column for the task": (
        tables("graphs", replace=("task", "assay")),
        r"graphs\.csv: it has no column for the task, only graph, assay, target",
    ),
    "no column for the source": (
        tables("edges", replace=("source", "begin")),
        r"edges\.csv: it has no column for the source, only graph, begin",
    ),
    "open quote": (tables("nodes", '"g0,a0,1'), r"nodes\.csv, lines? .*: it is not CSV"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_one_message_names_file_line_and_reason(name, tmp_path):
    write, expected = BAD[name]
    (root := tmp_path / "data").mkdir()
    kind = "regression" if name in ("text as number", "one class") else None
    data = TaskGraphs(str(write(root)), kind=kind, shots=2, queries=2, shares=(1, 0, 0))
    with pytest.raises(UserError) as error:
        data.episodes("train")
    message = str(error.value)
    assert re.search(expected, message)
    assert "\n" not in message
    assert len(message) < 500


# of each kind one: they all are raised while the data are read
THROUGH_THE_COMMAND_LINE = [
    "empty file",
    "broken JSON",
    "beyond the nodes",
    "NaN in edges",
    "other node length",
    "no file",
]
CONFIG = {
    "model": {
        "class_path": "metalit.algorithms.MAML",
        "init_args": {
            "inner_lr": 0.1,
            "network": {
                "class_path": "metalit.networks.LinearHead",
                "init_args": {"body": {"class_path": "metalit.networks.GIN", "init_args": {"width": 4, "layers": 1}}},
            },
        },
    },
    "data": {"class_path": "metalit.data.TaskGraphs", "init_args": {"shots": 2, "queries": 2}},
    "trainer": {"fast_dev_run": True, "enable_progress_bar": False, "enable_model_summary": False, "logger": False},
}


@pytest.mark.service
@pytest.mark.parametrize("name", THROUGH_THE_COMMAND_LINE)
def test_on_the_command_line_it_is_one_sentence_and_exit_code_2(name, tmp_path, capsys):
    write, expected = BAD[name]
    (root := tmp_path / "data").mkdir()
    config = write_yaml(tmp_path / "c.yaml", CONFIG)
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", config, "--data.file", str(write(root)), "--run_dir", str(tmp_path / "run")])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert re.search(expected, error)
    assert "Traceback" not in error


def objects(**changes):
    good = {"x": torch.ones(2, 1), "edge_index": torch.tensor([[0], [1]]), "edge_attr": None, "y": 1.0, "task": "a"}
    return [SimpleNamespace(**good), SimpleNamespace(**{**good, **changes})]


@pytest.mark.parametrize(
    ("graphs", "expected"),
    [
        (objects(x=None), r"data\.graphs, graph 1: it has no x"),
        (
            objects(edge_index=torch.tensor([0, 1])),
            r"graph 1: its edge_index has shape \[2\] and int64, expected \[2, E\]",
        ),
        (objects(edge_index=torch.tensor([[0.0], [1.0]])), r"graph 1: its edge_index has shape \[2, 1\] and float32"),
        (objects(edge_index=torch.tensor([[0], [2]])), r"graph 1: its edge 0 is \[0, 2\], but it has 2 nodes"),
        (objects(x=torch.tensor([[1.0], [math.nan]])), r"graph 1: the features of its node 1 have nan"),
        (objects(y=object()), r"graph 1: one of its attributes is <object"),
        (3, r"data\.graphs: it holds int, expected a list"),
        (objects(y=None)[1:], r"data\.graphs has no graph with a target"),
        ([], r"data\.graphs has no graph with a target"),
    ],
)
def test_objects_that_cannot_be_used(graphs, expected):
    with pytest.raises(UserError, match=expected):
        TaskGraphs(graphs=graphs).read()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "file"),
        ({"file": "a.jsonl", "graphs": []}, "file"),
        ({"file": "a.jsonl", "columns": {"bonds": "b"}}, "columns"),
        ({"file": "a.jsonl", "splits": "given", "split_sizes": [17, 7]}, "splits"),
        ({"file": "a.jsonl", "split_sizes": [7, 17]}, "split_sizes"),
        ({"file": "a.jsonl", "splits": "never"}, "splits"),
        ({"file": "a.jsonl", "shares": (0.5, 0.5, 0.5)}, "shares"),
    ],
)
def test_settings_out_of_range(settings, name):
    with pytest.raises(SettingError) as error:
        TaskGraphs(**settings)
    assert error.value.name == name


def test_given_splits_must_be_there(tmp_path):
    data = TaskGraphs(str(write_json_lines(tmp_path / "a.jsonl", GOOD)), splits="given")
    with pytest.raises(SettingError, match="the graphs have no split"):
        data.read()


def test_a_pyg_file_that_is_none(tmp_path):
    pytest.importorskip("torch_geometric", reason="needs metalit[graphs]")
    (tmp_path / "a.pt").write_bytes(b"no file of torch")
    with pytest.raises(UserError, match=r"a\.pt: it is no file of PyTorch Geometric"):
        TaskGraphs(str(tmp_path / "a.pt")).read()
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt"):
        TaskGraphs(str(tmp_path / "a.pt")).read()


def test_without_pyg_its_files_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch_geometric", None)
    monkeypatch.setitem(__import__("sys").modules, "torch_geometric.data.data", None)
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"pip install 'metalit\[graphs\]'"):
        TaskGraphs(str(tmp_path / "a.pt")).read()


def test_gzip_with_a_line_that_is_wrong(tmp_path):
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps(GRAPH) + "\n{\n")
    with pytest.raises(UserError, match=r"a\.jsonl\.gz, line 2: it is not JSON"):
        TaskGraphs(str(tmp_path / "a.jsonl.gz")).read()
