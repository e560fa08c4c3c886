"""FS-Mol in miniature: what an episode holds, how tasks are divided, the cache, and every mistake in the files."""

import gzip
import json
import time

import numpy as np
import pytest
import torch

from metalit.data import FSMol
from metalit.data.molecules import fs_mol
from metalit.errors import SettingError, UserError
from miniature_molecules import BITS, DESCRIPTORS, task, write_fs_mol, write_task


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A miniature that no test changes."""
    return write_fs_mol(tmp_path_factory.mktemp("fs_mol") / "data")


def lines_of(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def by_hand(root, folder, name, key):
    """The inputs of a task and its labels, straight from the file."""
    rows = lines_of(root / folder / f"{name}.jsonl.gz")
    return torch.tensor([row[key] for row in rows]).float(), torch.tensor([row["Property"] == "1.0" for row in rows])


def real(part, task):
    """The examples of one task without padding."""
    return (part.x[task], part.y[task]) if part.mask is None else (part.x[task][part.mask[task]],
                                                                 part.y[task][part.mask[task]])  # fmt: skip


def test_an_episode_is_a_task_of_the_files_divided(root):
    data = FSMol(str(root), eval_tasks_per_batch=4)
    episode = data.episodes("test", 0, 8)
    assert episode.support.x.shape == (8, 16, BITS)
    for index in range(8):
        x, y = by_hand(root, "test", data.task_name("test", index), "fingerprints")
        (support, support_y), (query, query_y) = real(episode.support, index), real(episode.query, index)
        together, labels = torch.cat([support, query]), torch.cat([support_y, query_y])
        assert len(together) == len(x)
        order = [int((x == each).all(dim=1).nonzero()) for each in together]  # fingerprints are all different
        assert sorted(order) == list(range(len(x)))
        assert torch.equal(labels, y[order].long())
        # the share of active molecules, up to rounding
        assert abs(int(support_y.sum()) - 16 * y.float().mean()) < 1


def test_graphs_are_those_of_the_files(root):
    data = FSMol(str(root), inputs="graph")
    episode = data.episodes("val", 0, 3)
    rows = lines_of(root / "valid" / f"{data.task_name('val', 1)}.jsonl.gz")
    graphs, labels = real_graphs(episode.support, 1)
    assert len(graphs) == 16
    for (nodes, edges, kinds), label in zip(graphs, labels.tolist(), strict=True):
        same = [row for row in rows if np.array_equal(row["graph"]["node_features"], nodes)]
        bonds = [{(*bond, kind) for kind, of in enumerate(row["graph"]["adjacency_lists"]) for bond in of}
                 for row in same]  # fmt: skip
        found = {(*edge, int(kind.argmax())) for edge, kind in zip(edges.tolist(), kinds, strict=True)}
        assert {frozenset(each | {(b, a, kind) for a, b, kind in each}) for each in bonds} == {frozenset(found)}
        assert label in {row["Property"] == "1.0" for row in same}
    assert data.sizes() == {"inputs": 32, "edge_inputs": 3, "outputs": 2}
    assert data.stores["val"].items.nodes.dtype == torch.int8
    assert episode.support.x.nodes.dtype == torch.float32


def real_graphs(part, task):
    """The graphs of one task, each as nodes, edges and kinds of bonds, and their labels."""
    x, places = part.x, range(part.y.shape[1] if part.mask is None else int(part.mask[task].sum()))
    graphs = [
        (
            x.nodes[task, place][x.node_mask[task, place]].numpy(),
            x.edges[task, place][x.edge_mask[task, place]],
            x.edge_features[task, place][x.edge_mask[task, place]],
        )
        for place in places
    ]
    return graphs, part.y[task, : len(places)]


@pytest.mark.parametrize(("settings", "sizes"), [
    ({}, {"inputs": BITS, "outputs": 2}),
    ({"inputs": "descriptors", "target": "log_value"}, {"inputs": DESCRIPTORS, "outputs": 1}),
])  # fmt: skip
def test_networks_learn_the_lengths_from_the_data(root, settings, sizes):
    assert FSMol(str(root), **settings).sizes() == sizes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"graph": None}, "line 3, has no graph"),
        ({"graph": []}, "line 3, cannot be used"),
        ({"graph": {"adjacency_lists": [[[0, 9]], [], []], "node_features": [[1] * 32] * 2}}, "edge"),
        ({"graph": {"adjacency_lists": [[], [], []], "node_features": [[1] * 31]}}, "31 features of an atom"),
        ({"graph": {"adjacency_lists": [[], []], "node_features": [[1] * 32]}}, "2 kinds of bonds"),
    ],
)
def test_a_bad_graph_is_named(tmp_path, changes, words):
    root = write_fs_mol(tmp_path / "data", (1, 1, 1), 18)
    spoil(root, **changes)
    with pytest.raises(UserError) as error:
        FSMol(str(root), inputs="graph").load("test")
    assert "CHEMBL1000002.jsonl.gz, line 3," in str(error.value)
    assert words in str(error.value)


def test_every_test_task_comes_in_ten_divisions(root):
    data = FSMol(str(root))
    data.setup("test")
    assert data.test_episodes == 4 * 10
    names = [data.task_name("test", index) for index in range(40)]
    assert names == names[:4] * 10
    assert len(set(names)) == 4
    divisions = data.episodes("test", 0, 40).support.x[::4]
    assert len({each.sum(dim=0).numpy().tobytes() for each in divisions}) == 10


def test_the_list_says_which_tasks_count(root):
    listed = FSMol(str(root)).load("train")
    assert len(listed.task_names) == 8
    everything = FSMol(str(root), task_list=None, train_shots=2).load("train")
    assert len(everything.task_names) == 9
    assert "CHEMBL9" in everything.task_names


def test_descriptors_are_standardised_by_the_training_tasks(root):
    data = FSMol(str(root), inputs="descriptors")
    train = torch.cat([by_hand(root, "train", name, "descriptors")[0] for name in data.load("train").task_names])
    x, _ = real(data.episodes("val", 1, 1).support, 0)
    found, _ = by_hand(root, "valid", data.task_name("val", 1), "descriptors")
    expected = (found - train.mean(0)) / train.std(0, unbiased=False)
    assert x.shape[1] == DESCRIPTORS
    for row in x:
        assert (expected - row).abs().max(dim=1).values.min() < 1e-4


def test_the_scaling_travels_in_the_checkpoint(root, tmp_path):
    data = FSMol(str(root), inputs="descriptors")
    x = data.episodes("test").support.x
    (tmp_path / "test").mkdir()
    for file in (root / "test").iterdir():
        (tmp_path / "test" / file.name).write_bytes(file.read_bytes())
    alone = FSMol(str(tmp_path), inputs="descriptors", task_list=None)
    with pytest.raises(UserError, match="training tasks"):
        alone.episodes("test")
    alone.take_over({"state_dict": {}, "FSMol": data.state_dict()})
    torch.testing.assert_close(alone.episodes("test").support.x, x)


def test_missing_and_huge_descriptors_are_ordinary_ones(tmp_path):
    rows = task(0, 40, "CHEMBL1")
    rows[3]["descriptors"] = [float("nan"), float("inf"), 1e300, *rows[3]["descriptors"][3:]]
    for row in rows[4:]:
        row["descriptors"][0] = 5.0  # constant
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        write_task(tmp_path / folder / "CHEMBL1.jsonl.gz", rows)
    data = FSMol(str(tmp_path), inputs="descriptors", task_list=None)
    episode = data.episodes("test")
    both = torch.cat([episode.support.x[0], real(episode.query, 0)[0]])
    assert torch.isfinite(both).all()
    assert (both.abs() <= 10).all()
    assert int((both[:, :3] == 0).all(dim=1).sum()) == 1


@pytest.mark.parametrize(("target", "key"), [("value", "RegressionProperty"), ("log_value", "LogRegressionProperty")])
def test_regression_leaves_out_molecules_without_a_value(tmp_path, target, key):
    rows = task(0, 30, "CHEMBL1")
    rows[0][key], rows[1][key] = "", None
    del rows[2][key]
    (tmp_path / "test").mkdir()
    write_task(tmp_path / "test" / "CHEMBL1.jsonl.gz", rows)
    data = FSMol(str(tmp_path), target=target, task_list=None)
    episode = data.episodes("test")
    values = torch.cat([real(episode.support, 0)[1], real(episode.query, 0)[1]])
    assert values.shape == (27, 1)
    torch.testing.assert_close(
        values[:, 0].sort().values, torch.tensor(sorted(float(row[key]) for row in rows[3:]), dtype=torch.float32)
    )
    assert episode.support.y.is_floating_point()


def test_a_second_start_reads_the_cache(tmp_path, monkeypatch):
    root = write_fs_mol(tmp_path / "data")
    first = FSMol(str(root)).episodes("test", 0, 3)

    def fail(*_):
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        patched.setattr(fs_mol, "lines", fail)
        again = FSMol(str(root)).episodes("test", 0, 3)
        assert all(torch.equal(a, b) for a, b in zip(first.query[:2], again.query[:2], strict=True))
        file = next((root / "test").iterdir())
        time.sleep(0.01)
        file.touch()
        with pytest.raises(AssertionError, match="read again"):
            FSMol(str(root)).episodes("test")


def test_training_leaves_out_tasks_without_room(root):
    data = FSMol(str(root), train_shots=39)
    names = data.load("train").task_names
    assert len(names) == 5  # of 40, 41 and 42 molecules in turn, the larger two kinds
    assert len(data.setting()["small_tasks_left_out"]["train"]) == 3


@pytest.mark.parametrize("bad", ["small", "one class", "single active"])
@pytest.mark.parametrize("small_tasks", ["error", "skip"])
def test_a_test_task_without_room_is_named(tmp_path, bad, small_tasks):
    root = write_fs_mol(tmp_path / "data", (1, 1, 2))
    rows = lines_of(root / "test" / "CHEMBL1000003.jsonl.gz")
    for number, row in enumerate(rows):
        row["Property"] = {"one class": "0.0", "single active": str(float(number == 7))}.get(bad, row["Property"])
    write_task(root / "test" / "CHEMBL1000003.jsonl.gz", rows[:17] if bad == "small" else rows)
    data = FSMol(str(root), small_tasks=small_tasks)
    if small_tasks == "skip":
        assert data.load("test").task_names == ["CHEMBL1000002"]
        assert data.setting()["small_tasks_left_out"] == {"test": ["CHEMBL1000003"]}
        return
    with pytest.raises(SettingError, match="CHEMBL1000003 has") as error:
        data.load("test")
    assert (error.value.name, error.value.value) == ("data.shots", 16)


def spoil(root, **changes):
    """Change the third line of a test task; an entry None is taken out."""
    path = sorted((root / "test").iterdir())[0]
    rows = lines_of(path)
    rows[2] = {key: value for key, value in (rows[2] | changes).items() if value is not None}
    write_task(path, rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Property": None}, "line 3, has no Property"),
        ({"Property": "2.0"}, "line 3, has Property '2.0', expected 0 or 1"),
        ({"Property": "active"}, "line 3, has Property 'active', expected a number"),
        ({"fingerprints": None}, "line 3, has no fingerprints"),
        ({"fingerprints": "none"}, "line 3, has fingerprints 'none', expected a list of numbers"),
        ({"fingerprints": [[1], 2]}, "line 3, has fingerprints"),
        ({"fingerprints": [1, 2]}, "line 3, has fingerprints of shape [2], expected a list of numbers, 2048"),
        ({"fingerprints": [-1] * BITS}, "line 3, has fingerprints that are not whole numbers"),
        ({"fingerprints": [0.5] * BITS}, "line 3, has fingerprints that are not whole numbers"),
        ({"LogRegressionProperty": "high"}, "line 3, has LogRegressionProperty 'high', expected a number"),
    ],
)
def test_a_bad_line_is_named(tmp_path, changes, words):
    root = write_fs_mol(tmp_path / "data", (1, 1, 1), 18)
    spoil(root, **changes)
    with pytest.raises(UserError) as error:
        FSMol(str(root)).load("test")
    assert "CHEMBL1000002.jsonl.gz" in str(error.value)
    assert words in str(error.value)


def test_missing_descriptors_are_named(tmp_path):
    root = write_fs_mol(tmp_path / "data", (1, 1, 1), 18)
    spoil(root, descriptors=None)
    with pytest.raises(UserError, match="line 3, has no descriptors"):
        FSMol(str(root), inputs="descriptors").load("test")


def broken_json(text):
    return gzip.compress(gzip.decompress(text).replace(b'"Assay_ID"', b"Assay_ID", 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: b"no gzip", "is not a whole gzip file"),
        (lambda text: text[:500], "is not a whole gzip file"),
        (lambda text: text[:200] + bytes(100) + text[300:], "is not a whole gzip file"),
        (broken_json, "line 1: it is not JSON"),
        (lambda text: gzip.compress(b"[1]\n"), "line 1: it is [1], expected a JSON object"),
        (lambda text: gzip.compress(b"\xff\xfe\n"), "line 1: it is not text in UTF-8"),
        (lambda text: gzip.compress(b"\n"), "holds no molecule"),
    ],
)
def test_a_bad_file_is_named(tmp_path, change, words):
    root = write_fs_mol(tmp_path / "data", (1, 1, 1), 18)
    path = root / "test" / "CHEMBL1000002.jsonl.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError) as error:
        FSMol(str(root)).load("test")
    assert str(path) in str(error.value)
    assert words in str(error.value)


def test_missing_files_are_explained(tmp_path):
    with pytest.raises(SettingError, match="figshare") as error:
        FSMol(str(tmp_path)).load("test")
    assert error.value.name == "data.root"
    assert "CC BY-SA 3.0" in str(error.value)
    root = write_fs_mol(tmp_path / "data", (1, 1, 2))
    (root / "test" / "CHEMBL1000002.jsonl.gz").unlink()
    with pytest.raises(SettingError, match=r"1 are missing, such as CHEMBL1000002.jsonl.gz"):
        FSMol(str(root)).load("test")
    assert FSMol(str(root), task_list=None).load("test").task_names == ["CHEMBL1000003"]


@pytest.mark.parametrize("text", [None, "[]", "{", '{"train": []}'])
def test_a_bad_list_is_named(tmp_path, text):
    root = write_fs_mol(tmp_path / "data", (1, 1, 1), 18)
    (root / "fsmol-0.1.json").unlink()
    if text is not None:
        (root / "fsmol-0.1.json").write_text(text)
    with pytest.raises(SettingError) as error:
        FSMol(str(root)).load("test")
    assert error.value.name == "data.task_list"


@pytest.mark.parametrize(("name", "value"), [("inputs", "smiles"), ("target", "ic50"), ("small_tasks", "drop")])
def test_unknown_settings_are_refused(name, value):
    with pytest.raises(SettingError) as error:
        FSMol(**{name: value})
    assert error.value.name == name


def test_counts_are_those_of_the_files(root):
    items = FSMol(str(root)).load("val").items
    x, _ = by_hand(root, "valid", "CHEMBL1000008", "fingerprints")
    rows = torch.tensor([3, 0, 39, 3])
    assert torch.equal(items.index_select(0, rows), x[rows])
    assert items.index_select(0, rows).max() > 1
    assert torch.equal(items.take(rows.reshape(2, 2)), x[rows].reshape(2, 2, BITS))
    assert np.prod(items.columns.shape) < 60 * len(items)
