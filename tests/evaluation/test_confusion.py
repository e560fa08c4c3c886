"""The file of the confusion of classes."""

import csv

import numpy as np
import pytest

from commands import maml, write_yaml
from metalit.evaluation import read_results
from metalit.evaluation.confusion import write_confusion
from metalit.main import main


def test_file_has_the_pairs_that_occurred(tmp_path):
    queries, taken = np.array([[4, 4], [2, 2]]), np.array([[3, 1], [0, 2]])
    write_confusion(tmp_path / "confusion.csv", ["a, b", "c"], queries, taken)
    with (tmp_path / "confusion.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["true", "predicted", "queries", "taken", "rate"],
            ["a, b", "a, b", "4", "3", "0.7500"],
            ["a, b", "c", "4", "1", "0.2500"],
            ["c", "c", "2", "2", "1.0000"],
        ]


def test_test_writes_it(tmp_path):
    config = write_yaml(tmp_path / "config.yaml", maml())
    main(["test", "--config", config, "--run_dir", str(tmp_path / "run"), "--trainer.limit_test_batches=1"])
    results = read_results(tmp_path / "run")
    with (tmp_path / "run" / "confusion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(int(row["taken"]) for row in rows if row["true"] == row["predicted"])
    total = sum(int(row["taken"]) for row in rows)
    assert total == results["episodes"] * 5 * results["setting"]["queries"]
    assert right / total == pytest.approx(results["metrics"]["accuracy"]["mean"])


def test_quick_check_writes_nothing(tmp_path):
    config = write_yaml(tmp_path / "config.yaml", maml())
    main(["test", "--config", config, "--run_dir", str(tmp_path / "run"), "--trainer.fast_dev_run=true"])
    assert not (tmp_path / "run").exists()
