"""A table of one's own on the command line: fit, test, predict, and the mistakes."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import metalit
from commands import complaint
from metalit.data import TaskTable
from metalit.main import main
from miniature_tables import columns_of_tasks, write_table
from yaml_files import read_yaml

QUICK = ["--trainer.max_steps", "2", "--trainer.enable_progress_bar", "false", "--data.episodes_per_epoch", "16"]
QUICK += ["--trainer.enable_model_summary", "false", "--data.val_episodes", "2", "--data.test_episodes", "4"]
QUICK += ["--model.network.hidden", "[8, 8]", "--trainer.log_every_n_steps", "1"]


def fit(file, folder, *options, config="maml"):
    main(["fit", "--config", f"configs/tables/{config}.yaml", "--data.file", str(file), *options, *QUICK, *run(folder)])


def run(folder):
    return ["--run_dir", str(folder)]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("tables") / "my.csv", columns_of_tasks(rows=16))


@pytest.fixture(scope="module")
def regression(tmp_path_factory, file):
    folder = tmp_path_factory.mktemp("runs") / "regression"
    fit(file, folder, "--data.target", "y")
    return folder


@pytest.fixture(scope="module")
def classification(tmp_path_factory, file):
    folder = tmp_path_factory.mktemp("runs") / "classification"
    fit(file, folder, config="protonet")
    return folder


def test_the_network_takes_its_lengths_from_the_table(regression, file):
    network = read_yaml(regression / "config.yaml")["model"]["init_args"]["network"]["init_args"]
    data = TaskTable(str(file), "task", "y")
    assert {name: network[name] for name in ("inputs", "outputs")} == data.sizes()
    learner, loaded = metalit.load(regression)
    assert learner.network.inputs == network["inputs"]
    assert loaded.found_coding() == data.found_coding()


def test_the_table_is_read_once(tmp_path, file, monkeypatch):
    calls = []
    read = TaskTable._read
    monkeypatch.setattr(TaskTable, "_read", lambda self: (calls.append(1), read(self))[1])
    fit(file, tmp_path / "run", "--data.target", "y")
    assert calls == [1]


def test_a_number_that_is_given_stays(tmp_path, file, capsys):
    said = complaint(capsys, lambda: fit(file, tmp_path / "run", "--data.target", "y", "--model.network.inputs", "3"))
    assert "model.network.inputs is 3, expected 10" in said


def test_results_are_in_the_units_of_the_table(regression):
    main(["test", "--config", str(regression / "config.yaml"), "--ckpt_path", "best", *run(regression)])
    results = json.loads((regression / "results.json").read_text())
    assert {"loss", "rmse", "pearson"} <= results["metrics"].keys()
    # the standard deviation of y is not 1: a model that hardly learned errs by about that much
    data = metalit.load(regression).data
    scale = data.found_coding().targets.scales[0]
    assert results["metrics"]["rmse"]["mean"] / np.sqrt(results["metrics"]["loss"]["mean"]) == pytest.approx(
        scale, rel=0.5
    )
    assert results["setting"]["tasks"] == {"test": 2}


def predicted(folder, support, query, to):
    main(["predict", *run(folder), "--support", str(support), "--query", str(query), "--to", str(to)])
    with (to / "predictions.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def rows_of(first, last, **without):
    """Rows ``first .. last-1`` of each task of another table."""
    columns = columns_of_tasks(rows=16, seed=5)
    return {
        name: [cell for number, cell in enumerate(cells) if first <= number % 16 < last]
        for name, cells in columns.items()
        if name not in without
    }


def test_predict_learns_each_task_from_its_own_rows(tmp_path, regression, capsys):
    support, query = rows_of(0, 8), rows_of(8, 12)
    query["y"] = [""] * len(query["y"])
    support = write_table(tmp_path / "mine.csv", support)
    found = predicted(regression, support, write_table(tmp_path / "new.csv", query), tmp_path)
    assert "Learned 12 tasks, predicted 48 of 48 rows" in " ".join(capsys.readouterr().out.split())
    assert [row["number"] for row in found] == [str(cell) for cell in query["number"]]
    values = [float(row["predicted y"]) for row in found]
    # a task alone gives what it gives among others, and without the column of the task too
    one = {name: cells[:4] for name, cells in query.items() if name not in ("task", "y")}
    own = {name: cells[:8] for name, cells in rows_of(0, 8).items() if name != "task"}
    alone = predicted(
        regression, write_table(tmp_path / "own.csv", own), write_table(tmp_path / "one.csv", one), tmp_path
    )
    assert [float(row["predicted y"]) for row in alone] == pytest.approx(values[:4], rel=1e-4)


def test_predict_says_what_predictions_are_worth_and_what_is_missing(tmp_path, regression, capsys):
    support, query = rows_of(0, 8), rows_of(8, 12)
    support["task"] = ["other" if task == "t03" else task for task in support["task"]]
    support["y"][0] = ""
    found = predicted(
        regression, write_table(tmp_path / "mine.csv", support), write_table(tmp_path / "new.csv", query), tmp_path
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "Left out 1 rows of --support" in said
    assert "No prediction for 1 tasks without a row in --support: t03" in said
    assert "on 44 rows with a target" in said
    assert [row["predicted y"] == "" for row in found] == [row["task"] == "t03" for row in found]


def test_predict_of_classes_gives_probabilities(tmp_path, classification, capsys):
    support, query = rows_of(0, 8), rows_of(8, 12)
    found = predicted(
        classification, write_table(tmp_path / "mine.csv", support), write_table(tmp_path / "new.csv", query), tmp_path
    )
    assert "on 48 rows with a class" in capsys.readouterr().out
    for row in found:
        chances = {name: float(row[f"P({name})"]) for name in "ab"}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-4)
        assert row["predicted grade"] == max(chances, key=chances.get)


MISTAKES = {
    "no file": (["--data.file", "none.csv"], "data.file is none.csv, expected a CSV, TSV or parquet file"),
    "no column": (["--data.target", "yield"], "data.target is yield, expected one of the columns of my.csv"),
    "no test tasks": (["--data.target", "y", "--data.shares", "[0, 0, 1]"], "has no training tasks"),
    "no validation tasks": (["--data.target", "y", "--data.shares", "[1, 0, 0]"], "has no tasks in the val split"),
    "two rules": (["--data.target", "y", "--data.split_sizes", "[7, 17]"], "data.split_sizes is [7, 17]"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, file, options, message, capsys):
    assert message in complaint(capsys, lambda: fit(file, tmp_path / "run", *options))


def test_mistakes_in_tables_to_predict_are_one_line(tmp_path, regression, classification, capsys):
    rows, fewer = rows_of(0, 8), rows_of(0, 8)
    del fewer["number"]
    same = rows_of(0, 8) | {"grade": ["a"] * 96}
    mine, less, alike = (
        write_table(tmp_path / f"{number}.csv", each) for number, each in enumerate((rows, fewer, same))
    )
    cases = [
        (regression, mine, less, "no column 'number', which the model was trained on"),
        (regression, tmp_path / "none.csv", mine, "support is"),
        (classification, alike, mine, "is of the class b"),
    ]
    for folder, support, query, message in cases:
        assert message in complaint(capsys, lambda given=(folder, support, query): predicted(*given, tmp_path))
