"""From a stream of episodes to a DataLoader that knows its exact position."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset, SequentialSampler

from metalit.data.stream import EpisodeStream
from metalit.episode import Episode
from metalit.errors import UserError

Span = tuple[int, int]  # (first episode, how many)


class EpisodeDataset(Dataset[Episode]):
    """Looks up a span of episodes; runs in the workers."""

    def __init__(self, stream: EpisodeStream) -> None:
        self.stream = stream

    def __getitem__(self, span: Span) -> Episode:
        return self.stream(*span)


@dataclass
class Position:
    """Where a training stands in its stream; all that a resume needs, whatever the world size.

    Attributes:
        episodes: how many episodes all ranks together have handed out.
        epoch_start: how many of them before the running epoch.
        epoch: Lightning's number of the running epoch, if it has told.
    """

    episodes: int = 0
    epoch_start: int = 0
    epoch: int | None = None

    def begin_epoch(self, epoch: int | None = None) -> None:
        """Let the next episode be the first of an epoch."""
        self.epoch_start, self.epoch = self.episodes, epoch

    def state_dict(self) -> dict[str, int | None]:
        """Return the position."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, int | None]) -> None:
        """Take up a position."""
        for name, value in state.items():
            setattr(self, name, value)


class TrainSpans(SequentialSampler):  # what Lightning's overfit_batches leaves in place
    """The episodes of one epoch after another: 0, 1, 2, ... without end over the whole training.

    One step takes ``tasks_per_batch`` consecutive episodes on each rank, rank after rank.

    Args:
        episodes_per_epoch: episodes after which an epoch ends, over all ranks.
        tasks_per_batch: B, tasks in one step on one rank.
        rank: this process.
        world_size: how many processes share the work.
        position: where the training stands, the only state; the beginning of the stream if not given.
        repeats: begin each epoch with the same episode, for ``overfit_batches``.
    """

    def __init__(
        self,
        episodes_per_epoch: int,
        tasks_per_batch: int,
        rank: int = 0,
        world_size: int = 1,
        position: Position | None = None,
        repeats: bool = False,
    ) -> None:
        self.repeats = repeats
        self.episodes_per_epoch, self.tasks_per_batch = episodes_per_epoch, tasks_per_batch
        self.rank, self.world_size = rank, world_size
        self.position = Position() if position is None else position

    @property
    def step(self) -> int:
        """How many episodes one step consumes on all ranks together."""
        return self.tasks_per_batch * self.world_size

    def __len__(self) -> int:
        return -(-self.episodes_per_epoch // self.step)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch where Lightning does, which also ends one before its last episode (``limit_train_batches``).

        A resume in mid-epoch tells the number that the position holds, and changes nothing.
        """
        if self.position.epoch is None:
            self.position.epoch = epoch
        elif self.position.epoch != epoch:
            if self.repeats:
                self.position.episodes = self.position.epoch_start
            self.position.begin_epoch(epoch)

    def __iter__(self) -> Iterator[Span]:  # type: ignore[override]  # spans in place of numbers
        now = self.position
        if now.episodes - now.epoch_start >= self.episodes_per_epoch:
            now.begin_epoch()
        for first in range(now.episodes, now.epoch_start + self.episodes_per_epoch, self.step):
            yield first + self.rank * self.tasks_per_batch, self.tasks_per_batch


class EvaluationSpans(SequentialSampler):
    """Episodes ``0 .. episodes-1``, each exactly once over all ranks; the last batch may be smaller.

    Raises:
        ValueError: fewer episodes than ranks.
    """

    def __init__(self, episodes: int, tasks_per_batch: int, rank: int = 0, world_size: int = 1) -> None:
        if episodes < world_size:
            raise UserError(f"there are {episodes} episodes for {world_size} processes; give at least one for each")
        # Lightning refuses a rank that has nothing to do
        tasks_per_batch = min(tasks_per_batch, episodes // world_size)
        starts = range(0, episodes, tasks_per_batch)
        self.spans = [(first, min(tasks_per_batch, episodes - first)) for first in starts][rank::world_size]

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[Span]:  # type: ignore[override]
        return iter(self.spans)


class TrainLoader(DataLoader[Episode]):
    """A DataLoader whose ``state_dict`` is the exact position, so that a resumed run trains on the next episode."""

    def __init__(self, stream: EpisodeStream, spans: TrainSpans, **options: Any) -> None:
        super().__init__(EpisodeDataset(stream), batch_size=None, sampler=spans, **options)
        self.spans = spans

    def __iter__(self) -> Iterator[Episode]:  # type: ignore[override]  # a generator serves as the iterator
        for episode in super().__iter__():
            self.spans.position.episodes += self.spans.step
            yield episode

    def state_dict(self) -> dict[str, int | None]:
        """Return how many episodes were handed out, and where the running epoch began."""
        return self.spans.position.state_dict()

    def load_state_dict(self, state: Mapping[str, int | None]) -> None:
        """Go on after the episodes that ``state`` says were handed out, whatever the world size was then."""
        self.spans.position.load_state_dict(state)


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
