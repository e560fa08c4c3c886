"""Counting how often classes of the data set are mistaken for one another."""

import numpy as np
import torch

from metalit.data.stream import ClassificationStream
from metalit.metrics.confusion import count_confusions


def stream(ways=3, queries=2):
    sizes = np.array([4, 5, 3, 6, 4])
    return ClassificationStream(sizes, split="test", seed=1, ways=ways, shots=1, queries=queries)


def class_of(row):
    return int(np.searchsorted([4, 9, 12, 18, 22], row, side="right"))


def test_right_predictions_are_on_the_diagonal():
    episodes = stream()
    labels = {i: episodes(i, 1).query.y[0] for i in range(20)}
    queries, taken = count_confusions(((episodes.classes(i), true, true) for i, true in labels.items()), 5)
    assert taken.sum() == 20 * 3 * 2
    assert (taken == np.diag(np.diag(queries))).all()


def test_counts_are_those_of_a_loop_over_queries():
    episodes = stream()
    predicted = {i: torch.randint(3, (6,), generator=torch.Generator().manual_seed(i)) for i in (0, 3, 4, 11)}
    true = {i: episodes(i, 1).query.y[0] for i in predicted}
    queries, taken = count_confusions(((episodes.classes(i), true[i], predicted[i]) for i in predicted), 5)
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
