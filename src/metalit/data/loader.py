"""From a stream of episodes to a DataLoader that knows its exact position."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, SequentialSampler

from metalit.data.stream import EpisodeStream
from metalit.episode import Episode

Span = tuple[int, int]  # (first episode, how many)


class EpisodeDataset(Dataset[Episode]):
    """Looks up a span of episodes; runs in the workers."""

    def __init__(self, stream: EpisodeStream) -> None:
        self.stream = stream

    def __getitem__(self, span: Span) -> Episode:
        return self.stream(*span)


class TrainSpans(SequentialSampler):  # so that Lightning's overfit_batches leaves it in place
    """The episodes of one epoch after another: 0, 1, 2, ... without end over the whole training.

    One step takes ``tasks_per_batch`` consecutive episodes on each rank, rank after rank. The only state is how many
    episodes all ranks together have handed out, and where the running epoch began.

    Args:
        episodes_per_epoch: episodes after which an epoch ends, over all ranks.
        tasks_per_batch: B, tasks in one step on one rank.
        rank: this process.
        world_size: how many processes share the work.
        repeated_steps: how many steps make an epoch, if each epoch is to have the same episodes; 0 if not.
    """

    def __init__(
        self,
        episodes_per_epoch: int,
        tasks_per_batch: int,
        rank: int = 0,
        world_size: int = 1,
        repeated_steps: int = 0,
    ) -> None:
        self.repeated_steps = repeated_steps
        self.episodes_per_epoch, self.tasks_per_batch = episodes_per_epoch, tasks_per_batch
        self.rank, self.world_size = rank, world_size
        self.position = 0
        self.epoch_start = 0

    @property
    def step(self) -> int:
        """How many episodes one step consumes on all ranks together."""
        return self.tasks_per_batch * self.world_size

    def __len__(self) -> int:
        return -(-self.episodes_per_epoch // self.step)

    def __iter__(self) -> Iterator[Span]:  # type: ignore[override]
        episodes = self.repeated_steps * self.step or self.episodes_per_epoch
        if self.position - self.epoch_start >= episodes:
            if self.repeated_steps:
                self.position = self.epoch_start
            self.epoch_start = self.position
        for first in range(self.position, self.epoch_start + episodes, self.step):
            yield first + self.rank * self.tasks_per_batch, self.tasks_per_batch


class EvaluationSpans(SequentialSampler):
    """Episodes ``0 .. episodes-1``, each exactly once over all ranks; the last batch may be smaller.

    Raises:
        ValueError: fewer episodes than ranks.
    """

    def __init__(self, episodes: int, tasks_per_batch: int, rank: int = 0, world_size: int = 1) -> None:
        if episodes < world_size:
            raise ValueError(
                f"there are {episodes} episodes for {world_size} processes; give at least one for each"
            )
        # Lightning refuses a rank that has nothing to do
        tasks_per_batch = min(tasks_per_batch, episodes // world_size)
        starts = range(0, episodes, tasks_per_batch)
        self.spans = [(first, min(tasks_per_batch, episodes - first)) for first in starts][rank::world_size]

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)


class TrainLoader(DataLoader[Episode]):
    """A DataLoader whose ``state_dict`` is the exact position, so that a resumed run trains on the next episode."""

    def __init__(self, stream: EpisodeStream, spans: TrainSpans, **options: Any) -> None:
        super().__init__(EpisodeDataset(stream), batch_size=None, sampler=spans, **options)
        self.spans = spans

    def __iter__(self) -> Iterator[Episode]:  # type: ignore[override]  # a generator serves as the iterator
        for episode in super().__iter__():
            self.spans.position += self.spans.step
            yield episode

    @property
    def first_episode(self) -> int:
        """Return which episode of the stream was the first of those handed out last, on this rank."""
        spans = self.spans
        return spans.position - spans.step + spans.rank * spans.tasks_per_batch

    def state_dict(self) -> dict[str, int]:
        """Return how many episodes were handed out, and where the running epoch began."""
        return {"episodes": self.spans.position, "epoch_start": self.spans.epoch_start}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the episodes that ``state`` says were handed out, whatever the world size was then."""
        self.spans.position, self.spans.epoch_start = state["episodes"], state["epoch_start"]


def leave_signals_to_the_main_process(_: int) -> None:
    """Keep a worker alive when all processes of a job are told to stop: the main one needs it until it has."""
    if sys.platform != "linux":
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))

    def end_when_the_main_process_says_so() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=end_when_the_main_process_says_so, daemon=True).start()


def evaluation_loader(stream: EpisodeStream, spans: EvaluationSpans, **options: Any) -> DataLoader[Episode]:
    """Return a loader of fixed validation or test episodes.

    A plain ``DataLoader``, since Lightning builds any subclass anew for ``predict``.
    """
    return DataLoader(EpisodeDataset(stream), batch_size=None, sampler=spans, **options)
