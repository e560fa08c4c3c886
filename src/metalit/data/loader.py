"""DataLoaders over streams of episodes; the training loader knows its exact position."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from metalit.data.position import Position
from metalit.data.stream import EpisodeStream
from metalit.episode import Episode
from metalit.errors import UserError

Span = tuple[int, int]  # (first episode, how many)
BLOCK = 512  # episodes that are computed at once at most, if a meta-batch is smaller


class EpisodeDataset(Dataset[Episode]):
    """Maps a span to its episodes; runs in the workers."""

    def __init__(self, stream: EpisodeStream) -> None:
        self.stream = stream

    def __getitem__(self, span: Span) -> Episode:
        return self.stream(*span)


class TrainSpans(SequentialSampler):  # because Lightning's overfit_batches replaces every other sampler
    """Spans of training episodes: 0, 1, 2, ... over all epochs, without end.

    Each step takes ``tasks_per_batch`` consecutive episodes per rank, in the order of the ranks.

    Args:
        episodes_per_epoch: episodes in an epoch, over all ranks.
        tasks_per_batch: B, tasks in one step on one rank.
        rank: rank of this process.
        world_size: number of ranks.
        position: the position of training, which is the only state; the beginning of the stream if not given.
        repeats: start each epoch at the same episode, for ``overfit_batches``.
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
        """Number of episodes that one step consumes on all ranks together."""
        return self.tasks_per_batch * self.world_size

    def __len__(self) -> int:
        # rounded up: the last step of an epoch takes a full meta-batch, and the stream loses no episode
        return -(-self.episodes_per_epoch // self.step)

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch when Lightning does, even before the current one is complete (``limit_train_batches``).

        A resume in mid-epoch sets the number that the position already holds, which changes nothing.
        """
        if self.position.epoch is None:
            self.position.epoch = epoch
        elif self.position.epoch != epoch:
            # overfit_batches: back to the first episode, so that every epoch has the same ones
            if self.repeats:
                self.position.episodes = self.position.epoch_start
            self.position.begin_epoch(epoch)

    def __iter__(self) -> Iterator[Span]:  # type: ignore[override]  # spans in place of numbers
        now = self.position
        # A complete epoch is followed by the next, also in a training loop without Lightning's ``set_epoch``. After a
        # resume within an epoch, the rest of it comes first.
        if now.episodes - now.epoch_start >= self.episodes_per_epoch:
            now.begin_epoch()
        for first in range(now.episodes, now.epoch_start + self.episodes_per_epoch, self.step):
            yield first + self.rank * self.tasks_per_batch, self.tasks_per_batch


class EvaluationSpans(SequentialSampler):
    """Spans of the episodes ``0 .. episodes-1``, each exactly once over all ranks; the last one may be shorter.

    Raises:
        UserError: fewer episodes than ranks.
    """

    def __init__(self, episodes: int, tasks_per_batch: int, rank: int = 0, world_size: int = 1) -> None:
        if episodes < world_size:
            raise UserError(f"there are {episodes} episodes for {world_size} processes; give at least one for each")
        # Smaller batches if there are few episodes: Lightning refuses a rank without a batch.
        tasks_per_batch = min(tasks_per_batch, episodes // world_size)
        starts = range(0, episodes, tasks_per_batch)
        self.spans = [(first, min(tasks_per_batch, episodes - first)) for first in starts][rank::world_size]

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[Span]:  # type: ignore[override]
        return iter(self.spans)


class TrainLoader(DataLoader[Episode]):
    """A DataLoader whose ``state_dict`` is the exact position: a resumed run trains on the very next episode.

    Args:
        stream: the stream of episodes.
        spans: which of its episodes make a meta-batch.
        reads_ahead: whether meta-batches are computed many at once in this process, which takes small ones less time;
            for streams whose episodes are small and all of one size.
        **options: options of ``DataLoader``.
    """

    def __init__(self, stream: EpisodeStream, spans: TrainSpans, reads_ahead: bool = False, **options: Any) -> None:
        super().__init__(EpisodeDataset(stream), batch_size=None, sampler=spans, **options)
        self.spans = spans
        # where several ranks or workers share the stream, what follows a span is for another one
        self.reads_ahead = reads_ahead and spans.world_size == 1 and not self.num_workers and not self.pin_memory

    def __iter__(self) -> Iterator[Episode]:  # type: ignore[override]  # a generator serves as the iterator
        # Counted here and not in the sampler, which runs ahead of training when workers prefetch.
        for episode in self._from_blocks() if self.reads_ahead else super().__iter__():
            self.spans.position.episodes += self.spans.step
            yield episode

    def _from_blocks(self) -> Iterator[Episode]:
        spans, dataset = iter(self.sampler), self.dataset
        while following := list(islice(spans, max(1, BLOCK // self.spans.tasks_per_batch))):
            first, count = following[0]
            yield from divided(dataset[first, count * len(following)], count)

    def state_dict(self) -> dict[str, int | None]:
        """Return the position in the stream."""
        return self.spans.position.state_dict()

    def load_state_dict(self, state: Mapping[str, int | None]) -> None:
        """Resume from the position in ``state``, which may come from another world size."""
        self.spans.position.load_state_dict(state)


def divided(episodes: Episode, count: int) -> Iterator[Episode]:
    """Yield a batch of tasks as meta-batches of ``count`` tasks, which share its memory."""
    leaves, form = tree_flatten(episodes)
    for parts in zip(*(leaf.split(count) for leaf in leaves), strict=True):
        yield tree_unflatten(list(parts), form)


PATIENCE = 2.0  # seconds between two looks at whether the main process is still there


def leave_signals_to_the_main_process(_: int) -> None:
    """Keep a worker alive when a signal to stop reaches all processes of a job."""
    # The main process finishes its step before it stops and needs its workers until then; a cluster may send the
    # signal to the whole job.
    if sys.platform != "linux":
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))

    # SIGTERM from the parent still ends a worker: a DataLoader terminates workers that do not end by themselves. A main
    # process that is killed cannot say so; its workers would wait for ever.
    main_process = os.getppid()

    def end_when_the_main_process_says_so() -> None:
        told = None
        while os.getppid() == main_process and (told is None or told.si_pid != main_process):
            told = signal.sigtimedwait([signal.SIGTERM], PATIENCE)
        os._exit(0)

    threading.Thread(target=end_when_the_main_process_says_so, daemon=True).start()


def evaluation_loader(stream: EpisodeStream, spans: EvaluationSpans, **options: Any) -> DataLoader[Episode]:
    """Return a loader of fixed validation or test episodes."""
    # a plain DataLoader, because Lightning re-instantiates any subclass for ``predict``
    return DataLoader(EpisodeDataset(stream), batch_size=None, sampler=spans, **options)
