"""The confusion of classes, over the classes of the data set."""

import csv

import numpy as np
import pytest
import torch

from commands import maml, write_yaml
from metalit.data.stream import ClassificationStream
from metalit.evaluation import read_results
from metalit.evaluation.confusion import count_confusions, write_confusion
from metalit.main import main


def stream(ways=3, queries=2):
    sizes = np.array([4, 5, 3, 6, 4])
    return ClassificationStream(sizes, split="test", seed=1, ways=ways, shots=1, queries=queries)


def class_of(row):
    return int(np.searchsorted([4, 9, 12, 18, 22], row, side="right"))


def test_right_predictions_are_on_the_diagonal():
    episodes = stream()
    labels = {i: (episodes(i, 1).query.y[0],) * 2 for i in range(20)}
    queries, taken = count_confusions(episodes, labels)
    assert taken.sum() == 20 * 3 * 2
    assert (taken == np.diag(np.diag(queries))).all()


def test_counts_are_those_of_a_loop_over_queries():
    episodes = stream()
    predicted = {i: torch.randint(3, (6,), generator=torch.Generator().manual_seed(i)) for i in (0, 3, 4, 11)}
    true = {i: episodes(i, 1).query.y[0] for i in predicted}
    queries, taken = count_confusions(episodes, {i: (true[i], predicted[i]) for i in predicted})
    wanted_queries, wanted_taken = np.zeros((2, 5, 5), dtype=int)
    for i, labels in predicted.items():
        rows, targets = (part[0].tolist() for part in episodes(i, 1).query)
        names = {target: class_of(row) for row, target in zip(rows, targets, strict=True)}
        for row, label in zip(rows, labels.tolist(), strict=True):
            wanted_taken[class_of(row), names[label]] += 1
            for other in names.values():
                wanted_queries[class_of(row), other] += 1
    assert (queries == wanted_queries).all()
    assert (taken == wanted_taken).all()


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
