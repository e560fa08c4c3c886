"""MetaScore: the table, the files of complexes, the division of clusters, and what is wrong with each."""

import csv
import re
import shutil

import numpy as np
import pytest
import torch

from metalit.data import MetaScore
from metalit.data.complexes.division import groups_of_clusters
from metalit.data.complexes.files import read_complex, write_complex
from metalit.data.complexes.synthetic import make_synthetic
from metalit.data.complexes.synthetic.making import HIGHEST, LOWEST, synthetic_rows
from metalit.data.complexes.synthetic.sizes import PLANS, cluster_sizes
from metalit.errors import SettingError, UserError


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory):
    """The folder of a tiny synthetic set."""
    return make_synthetic(tmp_path_factory.mktemp("metascore"), "tiny").parent


@pytest.fixture
def own(synthetic, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(synthetic, tmp_path / "own")


def metascore(folder, **settings):
    return MetaScore(file=str(folder / "complexes.csv"), **({"shots": 5, "train_queries": 5} | settings))


def rows_of(folder):
    with (folder / "complexes.csv").open() as file:
        return list(csv.DictReader(file))


def change(folder, complex_name, **arrays):
    """Replace arrays of the file of a complex; None takes one away."""
    path = folder / "graphs" / f"{complex_name}.npz"
    with np.load(path) as file:
        kept = {name: file[name] for name in file}
    np.savez(path, **{name: value for name, value in (kept | arrays).items() if value is not None})


def test_the_set_is_a_function_of_the_seed():
    one, again, other = (synthetic_rows("tiny", seed) for seed in (3, 3, 4))
    assert [row[:4] for row in one] == [row[:4] for row in again]
    for name in one[0].graphs._fields:
        values = [getattr(row.graphs, name) for row in one], [getattr(row.graphs, name) for row in again]
        assert all(np.array_equal(a, b) for a, b in zip(*values, strict=True) if a is not None)
    assert [row.affinity for row in one] != [row.affinity for row in other]


@pytest.mark.parametrize("size", PLANS)
def test_sizes_of_clusters_are_those_of_the_rule(size):
    for part in PLANS[size].parts:
        sizes = cluster_sizes(part)
        assert (len(sizes), sizes.sum()) == (part.clusters, part.complexes)
        assert part.smallest <= sizes.min() <= sizes.max() <= part.largest
        assert np.median(sizes) <= sizes.mean()  # a long tail


def test_affinities_have_a_realistic_spread():
    rows = synthetic_rows("tiny")
    affinities = np.array([row.affinity for row in rows])
    assert affinities.min() >= LOWEST
    assert affinities.max() <= HIGHEST
    assert 1.5 < affinities.std() < 2.4
    assert 5.5 < affinities.mean() < 7.5


def test_the_pocket_of_a_cluster_is_shared_and_does_not_tell_everything():
    rows = synthetic_rows("tiny")
    one, same, other = rows[0].graphs, rows[1].graphs, rows[-1].graphs
    assert len(one.residues) == len(same.residues)
    assert (one.residues == same.residues).all(axis=1).mean() > 0.7
    assert one.residues.shape != other.residues.shape or (one.residues == other.residues).all(axis=1).mean() < 0.5


def test_clusters_are_divided_by_size(synthetic):
    data = metascore(synthetic)
    sizes = {}
    for row in rows_of(synthetic):
        sizes[row["cluster"]] = sizes.get(row["cluster"], 0) + 1
    zero_shot = metascore(synthetic, test_clusters="zero_shot", shots=1)
    names = {}
    for split, source in (("train", data), ("val", data), ("test", data), ("zero_shot", zero_shot)):
        stream = source.checked_stream("test" if split == "zero_shot" else split)
        store = source.stores["test" if split == "zero_shot" else split]
        assert len(stream) + len(stream.left_out) == len(store.task_names)
        assert [sizes[name] for name in store.task_names] == store.task_sizes.tolist()
        names[split] = set(store.task_names)
    assert names["train"] == {name for name, size in sizes.items() if size >= 17}
    assert names["val"] | names["test"] == {name for name, size in sizes.items() if 7 <= size <= 16}
    assert len(names["val"]) == len(names["test"]) == 4
    assert not names["val"] & names["test"]
    assert names["zero_shot"] == {name for name, size in sizes.items() if size < 7}


def test_metascores_own_rule_has_all_middle_clusters_for_validation():
    sizes = {"a": 17, "b": 16, "c": 7, "d": 6}
    found = groups_of_clusters(sizes, 17, 7, test_share=0.0, seed=0)
    assert found == {"train": ["a"], "val": ["b", "c"], "adapted": [], "zero_shot": ["d"]}


def test_an_episode_holds_the_complexes_of_one_cluster(synthetic):
    data = metascore(synthetic)
    data.setup("fit")
    raw, episode = data.streams["train"](3, 2), data.episodes("train", 3, 2)
    rows = {row["complex"]: row for row in rows_of(synthetic)}
    assert episode.support.x.distances.shape[:2] == (2, 5)
    for task in range(2):
        clusters = set()
        for part, drawn in ((episode.support, raw.support), (episode.query, raw.query)):
            for place, row in enumerate(drawn.x[task].tolist()):
                name = data.stores["train"].example_names[row]
                clusters.add(rows[name]["cluster"])
                assert part.y[task, place].item() == pytest.approx(float(rows[name]["affinity"]))
                assert_is(part.x, (task, place), read_complex(synthetic / "graphs" / f"{name}.npz"))
        assert len(clusters) == 1


def assert_is(x, place, expected):
    """The complex at a place of an episode is that of a file, with 0 around it."""
    for graphs, nodes, edges, features in (
        (x.pocket, expected.residues, expected.contacts, expected.contact_features),
        (x.ligand, expected.atoms, expected.bonds, expected.bond_features),
    ):
        for found, mask, values in (
            (graphs.nodes, graphs.node_mask, nodes),
            (graphs.edges, graphs.edge_mask, edges),
            (graphs.edge_features, graphs.edge_mask, features),
        ):
            assert np.array_equal(found[place][mask[place]].numpy(), values)
            assert not found[place][~mask[place]].any()
    distances = x.distances[place].clone()
    between = torch.from_numpy(expected.between())
    torch.testing.assert_close(distances[: len(between), : between.shape[1]], between.float())
    distances[: len(between), : between.shape[1]] = 0
    assert not distances.any()


def test_groups_never_stand_on_both_sides(synthetic):
    data = metascore(synthetic, by_group=True)
    proteins = {row["complex"]: row["protein"] for row in rows_of(synthetic)}
    data.setup("fit")
    for index in range(20):
        raw = data.streams["train"](index, 1)
        sides = []
        for part in (raw.support, raw.query):
            there = part.x[0] if part.mask is None else part.x[0][part.mask[0]]
            sides.append({proteins[data.stores["train"].example_names[row]] for row in there.tolist()})
        assert not sides[0] & sides[1]


def test_distances_of_a_file_take_precedence_over_coordinates(own):
    name = rows_of(own)[0]["complex"]
    one = read_complex(own / "graphs" / f"{name}.npz")
    expected = np.linalg.norm(one.residue_places[:, None] - one.atom_places, axis=-1)
    assert np.allclose(one.between(), expected)
    write_complex(own / "graphs" / f"{name}.npz", one._replace(distances=expected + 1, atom_places=None))
    assert np.allclose(read_complex(own / "graphs" / f"{name}.npz").between(), expected + 1)


def test_a_missing_table_is_made_if_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m metalit\.data\.complexes\.synthetic"):
        metascore(tmp_path).prepare_data()
    metascore(tmp_path, synthetic="tiny").prepare_data()
    assert len(rows_of(tmp_path)) == sum(part.complexes for part in PLANS["tiny"].parts)


def first_complex(folder):
    return rows_of(folder)[0]["complex"]


def rewritten(folder, edit):
    rows = rows_of(folder)
    edit(rows)
    with (folder / "complexes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def without(column):
    return lambda rows: [row.pop(column) for row in rows]


def cell(place, column, value):
    return lambda rows: rows[place].update({column: value})


WRONG_TABLES = {
    "no cluster column": (without("cluster"), "no column for the cluster.*data.columns"),
    "affinity is nan": (cell(2, "affinity", "nan"), "line 4: its affinity is 'nan', expected a finite number"),
    "affinity is text": (cell(0, "affinity", ">5"), "line 2: its affinity is '>5'"),
    "affinity is empty": (cell(0, "affinity", ""), "line 2: its affinity is ''"),
    "empty cluster": (cell(1, "cluster", ""), "line 3: its cluster is empty"),
    "complex twice": (cell(1, "complex", "c0000_0000"), "line 3: the complex c0000_0000 is in line 2 already"),
    "no such file": (cell(3, "complex", "missing"), "line 5: there is no file .*missing.npz.*1 of"),
}


@pytest.mark.parametrize("what", WRONG_TABLES)
def test_a_wrong_table_is_one_message(own, what):
    edit, message = WRONG_TABLES[what]
    rewritten(own, edit)
    with pytest.raises((UserError, FileNotFoundError), match=message):
        metascore(own).prepare_data()


NO_BONDS = {"bonds": np.zeros((0, 2), int), "bond_features": np.zeros((0, 3))}
NO_CONTACTS = {"contacts": np.zeros((0, 2), int), "contact_features": np.zeros((0, 1))}
INFINITE = {"atoms": np.full((4, 10), np.inf), "atom_places": np.zeros((4, 3)), **NO_BONDS}
SEVEN = {"residues": np.zeros((3, 7)), "residue_places": np.zeros((3, 3)), **NO_CONTACTS}
ONE_BOND = {"bond_features": np.zeros((1, 3))}
WRONG_FILES = {
    "atom out of range": ({"bonds": np.array([[0, 99]]), **ONE_BOND}, r"bonds\[0\] is \[0, 99\], expected atoms 0 to"),
    "negative index": ({"contacts": np.array([[-1, 0]]), "contact_features": np.zeros((1, 1))}, r"contacts\[0\]"),
    "fractional index": ({"bonds": np.zeros((1, 2)), **ONE_BOND}, "bonds holds float64"),
    "not finite": (INFINITE, "atoms holds numbers that are not finite"),
    "other axis": ({"contact_features": np.zeros((1, 1))}, r"contact_features has shape \[1, 1\]"),
    "no residue": ({"residues": np.zeros((0, 20)), "residue_places": np.zeros((0, 3))}, "at least one residue"),
    "no coordinates": ({"atom_places": None}, "has no atom_places"),
    "no atoms": ({"atoms": None}, "has no atoms"),
    "text": ({"atoms": np.array([["a"]])}, "atoms"),
    "other features": (SEVEN, r"\(7, 1, 10, 3\) features.*\(20, 1, 10, 3\)"),
}


@pytest.mark.parametrize("what", WRONG_FILES)
def test_a_wrong_file_is_one_message(own, what):
    arrays, message = WRONG_FILES[what]
    name = rows_of(own)[4]["complex"]
    change(own, name, **arrays)
    with pytest.raises(UserError, match=message) as caught:
        metascore(own).prepare_data()
    assert f"{name}.npz" in str(caught.value)


def test_a_file_that_is_no_npz_is_named(own):
    (own / "graphs" / f"{first_complex(own)}.npz").write_text("complex")
    with pytest.raises(UserError, match=re.escape(f"{first_complex(own)}.npz is not an npz file")):
        metascore(own).prepare_data()


def test_a_group_without_clusters_says_how_many_there_are(synthetic):
    with pytest.raises(UserError, match="no clusters for the adapted group, only 6 train, 8 val, 0 adapted"):
        metascore(synthetic, test_share=0.0).load("test")
    for wrong in ({"train_size": 7}, {"val_size": 1}, {"test_share": 1.0}):
        with pytest.raises(SettingError):
            metascore(synthetic, **wrong)


def test_a_cache_follows_the_files(own):
    metascore(own).prepare_data()
    name = first_complex(own)
    one = read_complex(own / "graphs" / f"{name}.npz")
    write_complex(own / "graphs" / f"{name}.npz", one._replace(atoms=one.atoms + 1))
    _, complexes = metascore(own).complexes()
    assert torch.equal(complexes.take(torch.tensor(0)).ligand.nodes[0], torch.from_numpy(one.atoms[0] + 1))


def test_a_network_takes_the_lengths_of_features_from_the_data(synthetic):
    assert metascore(synthetic).sizes() == {
        "residue_inputs": 20,
        "contact_inputs": 1,
        "atom_inputs": 10,
        "bond_inputs": 3,
    }
