import os
import select
import signal
import sys
import time
from itertools import chain, islice

import numpy as np
import pytest
import torch

from metalit.data import ClassificationStream
from metalit.data.loader import (
    EvaluationSpans,
    TrainLoader,
    TrainSpans,
    evaluation_loader,
    leave_signals_to_the_main_process,
)
from metalit.episode import Episode, Labelled


def numbered(first, count):
    """A stream whose episode i holds nothing but i."""
    index = torch.arange(first, first + count)
    number = index[:, None]
    return Episode(Labelled(number, number), Labelled(number, number), index)


def numbers(batch):
    return batch.support.x.flatten().tolist()


def joined(lists):
    return list(chain.from_iterable(lists))


def train_loader(episodes_per_epoch=24, tasks_per_batch=4, rank=0, world_size=1, stream=numbered, **options):
    return TrainLoader(stream, TrainSpans(episodes_per_epoch, tasks_per_batch, rank, world_size), **options)


def epochs(loader, count=1):
    """The episodes of each batch of the next epochs."""
    return [numbers(batch) for _ in range(count) for batch in loader]


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_change_nothing(persistent):
    stream = ClassificationStream(np.full(8, 12), split="train", seed=3, ways=5, shots=2, queries=2)
    loaders = [
        train_loader(stream=stream),
        train_loader(stream=stream, num_workers=2, persistent_workers=persistent),
    ]
    alone, helped = ([batch for _ in range(2) for batch in loader] for loader in loaders)
    assert len(alone) == len(helped) == 12
    for one, other in zip(alone, helped, strict=True):
        for part in range(2):
            assert torch.equal(one[part].x, other[part].x)
            assert torch.equal(one[part].y, other[part].y)


@pytest.mark.parametrize("done", [0, 1, 127, 128, 130])
def test_reading_ahead_changes_neither_episodes_nor_the_position(done):
    calls = []

    def counted(first, count):
        calls.append(count)
        return numbered(first, count)

    plain = train_loader(episodes_per_epoch=600)
    ahead = TrainLoader(counted, TrainSpans(600, 4), reads_ahead=True)
    running, expected = iter(ahead), iter(plain)
    for _ in range(done):
        assert torch.equal(next(running).support.x, next(expected).support.x)
        assert ahead.state_dict() == plain.state_dict()
    resumed = TrainLoader(numbered, TrainSpans(600, 4), reads_ahead=True)
    resumed.load_state_dict(ahead.state_dict())
    assert epochs(resumed) == [numbers(batch) for batch in expected]
    assert epochs(resumed) == epochs(plain)  # the next epoch, of 150 meta-batches in two blocks
    assert calls == [[], [512], [512], [512], [512, 88]][[0, 1, 127, 128, 130].index(done)]


@pytest.mark.parametrize("settings", [{"rank": 1, "world_size": 2}, {"num_workers": 1}], ids=str)
def test_what_follows_is_not_read_ahead_where_others_share_the_stream(settings):
    counts = []

    def counted(first, count):
        counts.append(count)
        return numbered(first, count)

    loader = train_loader(stream=counted, reads_ahead=True, **settings)
    assert epochs(loader) == epochs(train_loader(**settings))
    assert set(counts) <= {4}  # empty where a worker has made them


def test_an_epoch_goes_on_where_the_last_one_ended():
    loader = train_loader()
    assert joined(epochs(loader, 3)) == list(range(72))
    assert len(loader) == 6


def test_an_epoch_that_is_no_multiple_of_the_step_ends_after_it_and_loses_nothing():
    loader = train_loader(episodes_per_epoch=10)
    assert len(loader) == 3
    assert epochs(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert epochs(loader)[0] == [12, 13, 14, 15]


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_together_do_the_work_of_one(world_size):
    one = epochs(train_loader(tasks_per_batch=2 * world_size), 2)
    ranks = [epochs(train_loader(tasks_per_batch=2, rank=r, world_size=world_size), 2) for r in range(world_size)]
    assert [joined(parts) for parts in zip(*ranks, strict=True)] == one


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 4, 6, 7, 11])
def test_resumed_training_sees_the_very_next_episode(done, workers):
    def three_epochs(loader):
        return (numbers(batch) for _ in range(3) for batch in loader)

    whole = list(three_epochs(train_loader()))
    loader = train_loader(num_workers=workers)
    running = three_epochs(loader)
    before = list(islice(running, done))
    state = loader.state_dict()
    running.close()
    resumed = train_loader(num_workers=workers)
    resumed.load_state_dict(state)
    after = list(resumed)
    assert before + [numbers(batch) for batch in after] == whole[: done + len(after)]
    assert len(after) == (-done % 6 or 6), "the epoch that was interrupted must end where it would have ended"


@pytest.mark.parametrize("world_size", [2, 3])
def test_resume_with_another_number_of_ranks_repeats_and_skips_nothing(world_size):
    loader = train_loader()
    seen = joined(numbers(batch) for batch in islice(loader, 3))
    for rank in range(world_size):
        other = train_loader(tasks_per_batch=2, rank=rank, world_size=world_size)
        other.load_state_dict(loader.state_dict())
        seen += joined(epochs(other))
    assert sorted(seen) == list(range(24))


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("episodes", [3, 20, 23])
def test_evaluation_takes_each_episode_exactly_once(world_size, episodes):
    seen = []
    for rank in range(world_size):
        loader = evaluation_loader(numbered, EvaluationSpans(episodes, 5, rank, world_size))
        batches = epochs(loader)
        assert len(loader) == len(batches)
        assert all(len(batch) <= 5 for batch in batches)
        assert epochs(loader) == batches, "the episodes must be the same each time"
        seen += joined(batches)
    assert sorted(seen) == list(range(episodes))


@pytest.mark.parametrize(("episodes", "world_size"), [(5, 2), (5, 4), (4, 4), (9, 4), (100, 3)])
def test_no_rank_is_without_work(episodes, world_size):
    ranks = [list(EvaluationSpans(episodes, 20, rank, world_size)) for rank in range(world_size)]
    assert all(ranks)
    seen = [first + i for spans in ranks for first, count in spans for i in range(count)]
    assert sorted(seen) == list(range(episodes))


def test_fewer_episodes_than_ranks_are_refused():
    with pytest.raises(ValueError, match="there are 3 episodes for 4 processes"):
        EvaluationSpans(3, 20, 0, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="workers watch their main process on Linux only")
def test_a_worker_ends_if_its_main_process_is_killed(monkeypatch):
    monkeypatch.setattr("metalit.data.loader.PATIENCE", 0.05)
    there, own = os.pipe()
    if not (main := os.fork()):
        try:
            if not os.fork():
                leave_signals_to_the_main_process(0)
                os.write(own, b"x")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(own)
    assert os.read(there, 1) == b"x"
    os.kill(main, signal.SIGKILL)
    os.waitpid(main, 0)
    # the pipe ends with the last process that could write to it
    assert select.select([there], [], [], 10)[0]
    assert os.read(there, 1) == b""
    os.close(there)
