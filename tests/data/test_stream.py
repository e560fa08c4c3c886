import math
from itertools import permutations

import numpy as np
import pytest
import torch

from metalit.data import ClassificationDataModule, ClassificationStream, ClassStore
from metalit.data.stream import SPLITS, distinct, random_words, uniform

SIZES = np.array([9, 6, 11, 7, 8, 6, 10])
WAYS, SHOTS, QUERIES = 3, 2, 4


def make_stream(split="train", seed=0, **changes):
    setting = {"ways": WAYS, "shots": SHOTS, "queries": QUERIES} | changes
    return ClassificationStream(SIZES, split=split, seed=seed, **setting)


def flat(episode):
    """All of an episode in one tensor, ``[B, everything]``."""
    return torch.cat([part for labelled in episode[:2] for part in labelled], dim=1)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 40), (7, 1), (7, 13), (39, 1)])
def test_an_episode_is_the_same_whatever_span_it_is_asked_in(first, count):
    stream = make_stream()
    assert torch.equal(flat(stream(first, count)), flat(stream(0, 40))[first : first + count])


def test_an_episode_is_the_same_after_others_were_asked_for():
    stream = make_stream()
    stream(1000, 3)
    assert torch.equal(flat(stream(5, 2)), flat(make_stream()(5, 2)))


def test_far_episodes_exist_and_differ():
    far = 10**12
    assert not torch.equal(flat(make_stream()(far, 5)), flat(make_stream()(0, 5)))
    assert torch.equal(flat(make_stream()(far + 2, 1)), flat(make_stream()(far, 5))[2:3])


def test_splits_and_seeds_have_streams_of_their_own():
    episodes = [flat(make_stream(split, seed)(0, 20)) for split in SPLITS for seed in (0, 1)]
    for one in range(len(episodes)):
        for other in range(one):
            assert not torch.equal(episodes[one], episodes[other])


def test_episodes_of_a_stream_differ():
    assert len(torch.unique(flat(make_stream()(0, 200)), dim=0)) == 200


def test_shapes_and_types():
    (support, support_labels), (query, query_labels), index = make_stream()(0, 5)
    assert support.shape == support_labels.shape == (5, WAYS * SHOTS)
    assert query.shape == query_labels.shape == (5, WAYS * QUERIES)
    assert {part.dtype for part in (support, support_labels, query, query_labels, index)} == {torch.int64}
    assert index.tolist() == [0, 1, 2, 3, 4]


def test_support_and_query_share_no_memory():
    """One task with one shot and one query is where views of the same labels would be contiguous."""
    support, query, _ = make_stream(shots=1, queries=1)(0, 1)
    assert support.y.data_ptr() != query.y.data_ptr()


def test_labels_name_distinct_classes():
    """Vectorised over many episodes: all rows of a label are of one class, no class has two labels."""
    support, query, _ = make_stream()(0, 2000)
    class_of_row = np.repeat(np.arange(len(SIZES)), SIZES)
    classes = class_of_row[torch.cat([support.x, query.x], 1).numpy()]
    labels = torch.cat([support.y, query.y], 1).numpy()
    for labelled, each in ((support, SHOTS), (query, QUERIES)):
        assert all((labelled.y == label).sum(1).eq(each).all() for label in range(WAYS))
    same_class = classes[:, :, None] == classes[:, None, :]
    same_label = labels[:, :, None] == labels[:, None, :]
    assert np.array_equal(same_class, same_label)


def test_classes_of_an_episode_are_those_of_its_labels():
    stream, starts = make_stream(), np.cumsum(SIZES) - SIZES
    support, _, index = stream(11, 6)
    for rows, labels, number in zip(*support, index.tolist(), strict=True):
        classes = np.searchsorted(starts, rows.numpy(), side="right") - 1
        assert (stream.classes(number)[labels.numpy()] == classes).all()


class ClassNumbers(ClassificationDataModule):
    """A data set in which an example is (the number of its class, its own number)."""

    def load(self, split):
        first, sizes = {"train": (0, [6, 7, 8, 9, 10]), "val": (5, [8, 6, 7]), "test": (8, [9, 9, 6, 7])}[split]
        sizes = np.array(sizes)
        numbers = torch.from_numpy(first + np.repeat(np.arange(len(sizes)), sizes))
        items = torch.stack([numbers, torch.arange(len(numbers))], dim=1)
        return ClassStore(items, sizes, [f"{split}/{number}" for number in range(len(sizes))])


@pytest.mark.parametrize(("split", "low", "high"), [("train", 0, 5), ("val", 5, 8), ("test", 8, 12)])
def test_100_000_episodes_leak_nothing(split, low, high):
    data = ClassNumbers(ways=3, shots=2, queries=2)
    seen = set()
    for first in range(0, 100_000, 20_000):
        support, query, _ = data.episodes(split, first, 20_000)
        examples = torch.cat([support.x, query.x], dim=1)
        ordered = examples[..., 1].sort(dim=1).values
        assert (ordered[:, 1:] > ordered[:, :-1]).all(), "an example is used twice in one episode"
        seen |= set(examples[..., 0].unique().tolist())
    assert seen == set(range(low, high)), "classes outside of the split, or never drawn"


def chi_square(counts):
    return ((counts - counts.mean()) ** 2 / counts.mean()).sum()


def test_global_labels_name_the_class_in_its_split():
    episode, plain = make_stream(global_labels=True)(0, 50), make_stream()(0, 50)
    ends = torch.as_tensor(SIZES).cumsum(0)
    for part, other in zip(episode[:2], plain[:2], strict=True):
        assert torch.equal(part.x, other.x)
        assert torch.equal(part.y, torch.searchsorted(ends, part.x, right=True))


def test_distinct_gives_every_ordered_selection_equally_often():
    n, population, k = 60_000, 5, 3
    chosen = distinct(random_words(3, "train", 0, n, 2 * k), np.full(n, population))
    selections = {selection: number for number, selection in enumerate(permutations(range(population), k))}
    counts = np.bincount([selections[tuple(row)] for row in chosen.tolist()], minlength=len(selections))
    freedom = len(selections) - 1
    assert chi_square(counts) < freedom + 5 * math.sqrt(2 * freedom)


def test_distinct_takes_a_population_for_each_row():
    population = np.array([[3], [5], [100]]).repeat(1000, axis=1)
    chosen = distinct(random_words(4, "val", 0, 3000, 6).reshape(3, 1000, 6), population)
    assert (chosen >= 0).all()
    assert (chosen < population[..., None]).all()
    assert all(len(set(row)) == 3 for row in chosen.reshape(-1, 3).tolist())
    assert chosen.max(axis=(1, 2)).tolist()[:2] == [2, 4]


def test_uniform_is_uniform_and_below_its_upper_bound():
    words = random_words(5, "test", 0, 50_000, 2)
    counts, _ = np.histogram(uniform(words, -2.0, 3.0), bins=50, range=(-2.0, 3.0))
    assert counts.sum() == words.size
    assert chi_square(counts) < 49 + 5 * math.sqrt(2 * 49)
    extremes = uniform(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert extremes[0] == 0
    assert 1 - 2**-50 < extremes[1] < 1


def test_classes_and_examples_are_drawn_equally_often():
    support, *_ = make_stream(seed=6)(0, 20_000)
    rows = np.bincount(support.x.flatten().numpy(), minlength=SIZES.sum())
    for start, size in zip(np.cumsum(SIZES) - SIZES, SIZES, strict=True):
        assert chi_square(rows[start : start + size]) < size + 5 * math.sqrt(2 * size)
    assert chi_square(np.add.reduceat(rows, np.cumsum(SIZES) - SIZES)) < 7 + 5 * math.sqrt(2 * 7)


def test_more_ways_than_classes_is_refused():
    with pytest.raises(ValueError, match="ways is 8, expected at most 7, the classes of the test split"):
        make_stream("test", ways=8)


def test_more_shots_and_queries_than_examples_is_refused():
    with pytest.raises(ValueError, match="at most 6, not 7, for class number 1 of the train split"):
        make_stream(shots=3)


def test_all_classes_and_all_examples_can_be_used():
    support, query, _ = make_stream(ways=7, shots=2, queries=4)(0, 1)
    assert len(torch.cat([support.x, query.x], 1).unique()) == 7 * 6
