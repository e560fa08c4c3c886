"""``fit``, ``test`` and ``predict --support`` on protein-ligand complexes, by the command line."""

import csv
import json

import pytest
import torch

import metalit
from commands import write_yaml
from metalit.data import MetaScore
from metalit.data.complexes.synthetic import make_synthetic
from metalit.inference.complex_rows import predict_complexes
from metalit.main import main

NETWORK = {
    "class_path": "metalit.networks.ProteinLigandNetwork",
    "init_args": {
        "width": 6,
        "layers": 1,
        "head": {"class_path": "metalit.networks.AffinityHead", "init_args": {"inputs": 6, "width": 6}},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folders of a finished run and of its data."""
    folder = tmp_path_factory.mktemp("metascore")
    table = make_synthetic(folder / "data", "tiny")
    settings = {
        "seed_everything": 0,
        "model": {
            "class_path": "metalit.algorithms.MAML",
            "init_args": {"network": NETWORK, "inner_lr": 0.05, "inner_steps": 2},
        },
        "data": {
            "class_path": "metalit.data.MetaScore",
            "init_args": {
                "file": str(table),
                "train_queries": 5,
                "shots": 5,
                "tasks_per_batch": 2,
                "episodes_per_epoch": 4,
            },
        },
        "trainer": {
            "max_steps": 2,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
        },
        "checkpoint": {"monitor": "val/mse", "mode": "min"},
    }
    main(["fit", "--config", write_yaml(folder / "config.yaml", settings), "--run_dir", str(folder / "run")])
    return folder / "run", folder / "data"


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def write(path, rows, columns):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def tables(run):
    """A table of measured complexes and one of new ones, of two clusters, of which the second is not measured."""
    _, data = run
    rows = rows_of(data / "complexes.csv")
    cluster = [row for row in rows if row["cluster"] == rows[0]["cluster"]]
    other = [row for row in rows if row["cluster"] != rows[0]["cluster"]][:3]
    columns = ["complex", "cluster", "affinity"]
    support = write(data / "cluster.csv", cluster[:6], columns)
    return support, write(data / "new.csv", [*cluster[6:11], *other], columns)


def test_a_run_is_tested_on_both_groups(run):
    folder, _ = run
    common = ["test", "--config", str(folder / "config.yaml"), "--run_dir", str(folder), "--ckpt_path", "best"]
    main(common)
    results = json.loads((folder / "results.json").read_text())
    assert {"pearson", "spearman", "rmse", "mse"} <= results["metrics"].keys()
    assert results["setting"]["test_clusters"] == "adapted"
    assert results["episodes"] == 4
    main([*common, "--data.test_clusters", "zero_shot", "--data.shots", "1"])
    results = json.loads((folder / "results.json").read_text())
    assert results["setting"]["test_clusters"] == "zero_shot"
    assert "pearson" in results["metrics"]


def test_a_cluster_of_equal_affinities_has_no_correlation_but_an_error(run, tmp_path):
    folder, data = run
    rows = rows_of(data / "complexes.csv")
    module = MetaScore(str(data / "complexes.csv"), shots=5)
    constant = module.task_name("test", 0)
    rows = [{**row, "affinity": "6.5"} if row["cluster"] == constant else row for row in rows]
    table = write(data / "constant.csv", rows, list(rows[0]))
    words = ["test", "--config", str(folder / "config.yaml"), "--run_dir", str(tmp_path)]
    main([*words, "--ckpt_path", str(folder / "checkpoints" / "best.ckpt"), "--data.file", str(table)])
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    for name in ("pearson", "spearman"):
        assert metrics[name]["undefined"] >= 1
        assert -1 <= metrics[name]["mean"] <= 1
    assert "undefined" not in metrics["rmse"]
    assert metrics["rmse"]["mean"] > 0


def test_predict_learns_the_cluster_of_one_table_and_predicts_another(run, tables, tmp_path, capsys):
    folder, _ = run
    support, query = tables
    main(["predict", "--run_dir", str(folder), "--support", str(support), "--query", str(query), "--to", str(tmp_path)])
    found = rows_of(tmp_path / "predictions.csv")
    assert [row["complex"] for row in found] == [row["complex"] for row in rows_of(query)]
    assert [row["adapted"] for row in found] == ["yes"] * 5 + ["no"] * 3
    # the same as by hand, complex by complex
    learner, data = metalit.load(folder)
    lines, complexes = data.complexes()
    place = {line.name: number for number, line in enumerate(lines)}
    rows = torch.tensor([place[row["complex"]] for row in rows_of(support)])
    asked = torch.tensor([place[row["complex"]] for row in found])
    x, at = complexes.parts(rows, asked)
    y = torch.tensor([[float(row["affinity"])] for row in rows_of(support)])
    adapted = learner.adapt(metalit.Labelled(x, y))(at)[:5, 0]
    plain = learner.network(at)[5:, 0]
    values = torch.tensor([float(row["predicted affinity"]) for row in found])
    torch.testing.assert_close(values, torch.cat([adapted, plain]).detach(), rtol=0, atol=1e-4)
    printed = capsys.readouterr().out
    assert "Learned 1 cluster, predicted 8 complexes" in printed
    assert "Without adaptation" in printed
    assert "Pearson" in printed


def test_tables_without_clusters_are_one_cluster(run, tables, tmp_path):
    folder, data = run
    support, query = tables
    learner, module = metalit.load(folder)
    columns = ["complex", "affinity"]
    alone = [write(data / f"alone{i}.csv", rows_of(each)[:5], columns) for i, each in enumerate((support, query))]
    found = predict_complexes(learner, module, *alone)
    assert (found.learned, found.zero_shot, found.left_out) == ([""], [], [])
    assert found.affinities.isfinite().all()


WRONG = {
    "only one has clusters": (["complex", "affinity"], None, "has a column of clusters and"),
    "no affinity": (["complex", "cluster"], None, "no column for the affinity"),
    "missing file": (["complex", "cluster", "affinity"], "nothing", "there is no file"),
    "threshold": (["complex", "cluster", "affinity"], None, "none for complexes"),
}


@pytest.mark.parametrize("what", WRONG)
def test_bad_input_is_one_message_and_exit_code_2(run, tables, tmp_path, capsys, what):
    folder, data = run
    columns, name, message = WRONG[what]
    rows = rows_of(tables[0])
    if name is not None:
        rows[0]["complex"] = name
    support = write(data / "wrong.csv", rows, columns)
    words = ["predict", "--run_dir", str(folder), "--support", str(support), "--query", str(tables[1])]
    words += ["--threshold", "0.5"] if what == "threshold" else []
    with pytest.raises(SystemExit) as caught:
        main([*words, "--to", str(tmp_path)])
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_bad_data_of_a_training_end_it_with_exit_code_2(run, tmp_path, capsys):
    folder, data = run
    rows = rows_of(data / "complexes.csv")
    rows[7]["affinity"] = "nan"
    table = write(data / "nan.csv", rows, list(rows[0]))
    with pytest.raises(SystemExit) as caught:
        main(["fit", "--config", str(folder / "config.yaml"), "--data.file", str(table), "--run_dir", str(tmp_path)])
    assert caught.value.code == 2
    assert "line 9: its affinity is 'nan'" in " ".join(capsys.readouterr().err.split())
