import logging

import numpy as np
import pytest
import torch

from metalit.data.task_division import hashed
from metalit.data.task_store import TaskStore
from metalit.data.task_stream import TaskStream
from metalit.errors import SettingError, UserError

SIZES = np.array([9, 2, 30, 12, 5])


def store(sizes=SIZES, labels=None, groups=None):
    total = int(sizes.sum())
    targets = torch.arange(total, dtype=torch.float64)[:, None] if labels is None else torch.as_tensor(labels)
    items = torch.arange(total, dtype=torch.float32)[:, None]
    return TaskStore(items, targets, sizes, [f"t{i}" for i in range(len(sizes))], groups)


def stream(split="train", seed=0, shots=4, queries=None, **changes):
    settings = {name: changes.pop(name) for name in ("weighting", "stratified") if name in changes}
    return TaskStream(store(**changes), split=split, seed=seed, shots=shots, queries=queries, **settings)


def rows(part):
    """The rows of each task of one part of an episode, without padding."""
    masks = torch.ones_like(part.x, dtype=torch.bool) if part.mask is None else part.mask
    return [x[mask].tolist() for x, mask in zip(part.x, masks, strict=True)]


def task_of(row, sizes=SIZES):
    return int(np.searchsorted(np.cumsum(sizes), row, side="right"))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("first", "count"), [(0, 1), (7, 13), (39, 1)])
@pytest.mark.parametrize("kind", ["plain", "labels", "stratified", "groups", "both"])
def test_an_episode_is_the_same_whatever_span_it_is_asked_in(kind, split, first, count):
    labels, groups = np.arange(SIZES.sum()) % 2, np.arange(SIZES.sum()) // 3
    changes = {
        "plain": {},
        "labels": {"labels": labels},
        "stratified": {"labels": labels, "stratified": True},
        "groups": {"groups": groups},
        "both": {"labels": labels, "groups": groups},
    }[kind]
    whole, part = stream(split, **changes)(0, 40), stream(split, **changes)(first, count)
    for one, other in zip(whole[:2], part[:2], strict=True):
        assert rows(one)[first : first + count] == rows(other)
    assert torch.equal(whole.index[first : first + count], part.index)


def test_support_and_query_are_rows_of_one_task_and_share_none():
    episode = stream()(0, 300)
    for support, query in zip(rows(episode.support), rows(episode.query), strict=True):
        assert len({task_of(row) for row in support + query}) == 1
        size = SIZES[task_of(support[0])]
        assert len(support) == min(4, size - 1)
        assert len(set(support + query)) == len(support + query) == size


def test_padding_is_zero_at_the_end_and_targets_belong_to_their_rows():
    for part in stream("val")(0, 5)[:2]:
        places = torch.arange(part.mask.shape[1])
        assert torch.equal(part.mask, places < part.mask.sum(1, keepdim=True))
        assert (part.x[~part.mask] == 0).all()
        assert (part.y[~part.mask] == 0).all()
        assert torch.equal(part.y[part.mask][:, 0], part.x[part.mask].to(part.y.dtype))


def test_parts_that_no_task_falls_short_of_have_no_mask():
    equal = stream(sizes=np.array([8, 9, 12]), queries=4)(0, 20)
    assert equal.support.mask is None
    assert equal.query.mask is None
    assert equal.query.x.shape == (20, 4)
    assert stream(sizes=np.array([7, 9, 12]), queries=4)(0, 20).query.mask is not None
    assert stream(sizes=np.array([5, 9, 4]))(0, 20).support.mask is not None


def test_in_validation_the_tasks_go_in_order_with_a_new_division_each_time():
    val = stream("val", sizes=np.array([9, 1, 30, 12]))
    assert [val.task(index) for index in range(6)] == [0, 2, 3, 0, 2, 3]
    support = rows(val(0, 60).support)
    assert [task_of(each[0], np.array([9, 1, 30, 12])) for each in support[:6]] == [0, 2, 3, 0, 2, 3]
    assert len({tuple(sorted(each)) for each in support[::3]}) > 10


def test_every_division_is_equally_likely():
    support = rows(stream("val", sizes=np.array([6]), shots=2)(0, 6000).support)
    _, counts = np.unique([sorted(each) for each in support], axis=0, return_counts=True)
    assert len(counts) == 15
    assert ((counts - 400) ** 2 / 400).sum() < 36.1  # chi2, 14 degrees of freedom, 0.999


@pytest.mark.parametrize(("weighting", "expected"), [("tasks", [0.5, 0.5]), ("rows", [0.2, 0.8])])
def test_training_tasks_are_drawn_with_equal_probability_or_in_proportion_to_their_rows(weighting, expected):
    drawn = stream(sizes=np.array([6, 24]), weighting=weighting)
    found = np.bincount([drawn.task(index) for index in range(2000)]) / 2000
    assert found == pytest.approx(expected, abs=0.04)


def test_tasks_that_cannot_be_divided_are_left_out_with_a_sentence(caplog):
    with caplog.at_level(logging.INFO):
        used = stream(sizes=np.array([1, 9, 0, 5]))
    assert used.left_out == ["t0", "t2"]
    assert len(used) == 2
    assert "2 of 4 left out of the train split" in caplog.text
    with pytest.raises(SettingError, match="none of its 2 tasks"):
        stream(sizes=np.array([1, 1]))


def test_a_support_has_each_class_of_its_task():
    rng = np.random.default_rng(0)
    labels = (rng.random(SIZES.sum()) < 0.15).astype(np.int64)
    used = stream(labels=labels, shots=3)
    for support, query in zip(rows(used(0, 300).support), rows(used(0, 300).query), strict=True):
        assert set(labels[support]) == set(labels[support + query]) == {0, 1}


def test_tasks_of_one_class_and_tasks_without_a_row_for_the_query_are_left_out():
    labels = [0, 0, 0, 0, 1, 0, 1, 1]  # one class; a row of each of two; three of two
    used = stream(sizes=np.array([3, 2, 3]), labels=labels)
    assert used.left_out == ["t0", "t1"]


def test_stratified_supports_have_each_class_in_proportion():
    labels = np.array([0] * 30 + [1] * 10)
    used = stream(sizes=np.array([40]), labels=labels, shots=8, stratified=True)
    assert {int(labels[each].sum()) for each in rows(used(0, 100).support)} == {2}
    plain = stream(sizes=np.array([40]), labels=labels, shots=8)
    assert len({int(labels[each].sum()) for each in rows(plain(0, 100).support)}) > 2


@pytest.mark.parametrize("classes", [None, 2])
def test_support_and_query_share_no_group(classes):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, SIZES.sum())
    labels = None if classes is None else rng.integers(0, classes, SIZES.sum())
    used = stream(groups=groups, labels=labels, shots=4)
    episode = used(0, 400)
    for support, query in zip(rows(episode.support), rows(episode.query), strict=True):
        assert len(support) >= 1
        assert len(query) >= 1
        assert len({task_of(row) for row in support + query}) == 1
        assert not set(groups[support]) & set(groups[query])


def test_a_support_has_each_class_if_the_groups_allow_it():
    labels = np.array([0, 0, 0, 0, 1, 1, 0, 0, 0, 0])
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    episode = stream(sizes=np.array([10]), groups=groups, labels=labels, shots=3)(0, 100)
    for support, query in zip(rows(episode.support), rows(episode.query), strict=True):
        assert set(labels[support]) == {0, 1}
        assert query


def test_splitmix64_gives_the_published_sequence():
    # the first outputs for seed 1234567, from the reference implementation (prng.di.unimi.it/splitmix64.c)
    found = hashed(np.full(3, 1234567, dtype=np.uint64), np.arange(3))
    assert found.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_store_refuses_what_does_not_fit_together():
    with pytest.raises(UserError, match="do not fit together"):
        TaskStore(torch.zeros(3, 1), torch.zeros(2, 1), np.array([3]), ["a"])


@pytest.mark.parametrize("shots", [2, 5, 16, 31])
def test_stratified_numbers_are_those_of_scikit_learn(shots):
    split = pytest.importorskip("sklearn.model_selection").StratifiedShuffleSplit
    sizes = np.array([40, 41, 57, 101])
    actives = (20, 12, 26, 38)
    parts = [np.arange(size) < active for size, active in zip(sizes, actives, strict=True)]
    labels = np.concatenate(parts).astype(np.int64)
    episode = stream("val", shots=shots, sizes=sizes, labels=labels, stratified=True)(0, 40)
    for index, found in enumerate(labels[each].sum() for each in rows(episode.support)):
        of_task = labels[np.repeat(np.arange(4), sizes) == index % 4]
        divisions = split(20, train_size=shots, random_state=0).split(of_task, of_task)
        expected = {int(of_task[train].sum()) for train, _ in divisions}  # two numbers if the halves are equal
        assert found in expected
