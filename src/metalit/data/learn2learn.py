"""A data module over learn2learn tasksets, and metalit's class stores as learn2learn data sets.

Legend: B tasks in a meta-batch, N ways, K shots per class.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import Dataset

from metalit.data.module import EpisodicDataModule
from metalit.data.store import ClassStore
from metalit.data.stream import SPLITS, Split, random_words
from metalit.episode import Episode, Labelled
from metalit.errors import SettingError, UserError, at_least
from metalit.functional.examples import to_unit_interval
from metalit.learn2learn_compat import import_learn2learn


@contextmanager
def random_state(word: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (CPU) with ``word`` and restore their states on exit.

    Args:
        word: in [0, 2^64).
    """
    # NPY002 discourages NumPy's global generator, but learn2learn's transforms may use it.
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        random.seed(word)
        # NumPy takes seeds of 32 bits
        np.random.seed([word & 0xFFFFFFFF, word >> 32])  # noqa: NPY002
        # not torch.manual_seed, which would seed the generators of all devices too, and nothing restores those
        torch.default_generator.manual_seed(word)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


class TasksetStream:
    """The tasks of a learn2learn taskset as episodes that depend on (seed, split, i) alone.

    A learn2learn task is a set of labelled rows in arbitrary order, which is split into support and query here. If the
    taskset has a fixed number of tasks (``num_tasks`` is not -1), episode i is task i modulo that number.

    Args:
        taskset: a ``learn2learn.data.Taskset``.
        split: the split, which selects the random stream.
        seed: the stream's seed.
        ways: N, labels in a task.
        shots: K, support examples per label.
        queries: query examples per label.

    Raises:
        UserError: the taskset names its classes by strings.
    """

    def __init__(self, taskset: Any, *, split: Split, seed: int, ways: int, shots: int, queries: int) -> None:
        # learn2learn passes labels through Python sets, whose order of strings differs from process to process.
        if any(isinstance(label, str) for label in taskset.dataset.labels):
            raise UserError(
                f"the {split} taskset names its classes by strings, such as {taskset.dataset.labels[0]!r}, and its "
                "tasks would differ from run to run: number the classes instead"
            )
        self.taskset, self.split, self.seed = taskset, split, seed
        self.ways, self.shots, self.queries = ways, shots, queries

    def __call__(self, first: int, count: int) -> Episode:
        """Return episodes ``first .. first+count-1``, each leaf ``[count, N*K or N*queries, ...]``."""
        tasks = [self.arrange(i, *self.sample(i)) for i in range(first, first + count)]
        return tree_map(lambda *leaves: torch.stack(leaves), *tasks)  # type: ignore[no-any-return]

    def sample(self, i: int) -> tuple[Tensor, Tensor]:
        """Return the i-th task as learn2learn samples it: data ``[rows, *features]`` and labels ``[rows]``."""
        word = self._word(i, 0)
        if self.taskset.num_tasks == -1:
            with random_state(word):
                data, labels = self.taskset.sample()
            return data, labels
        task = i % self.taskset.num_tasks
        # learn2learn draws the description of a task at its first access, so it would depend on the history of the run.
        # The description follows from the task alone; what transforms draw is new for each episode.
        with random_state(self._word(task, 1)):
            self.taskset.sampled_descriptions[task] = self.taskset.sample_task_description()
        with random_state(word):
            data, labels = self.taskset[task]
        return data, labels

    def arrange(self, i: int, data: Tensor, labels: Tensor) -> Episode:
        """Split the i-th task, which has no axis B, into support and query, each sorted by label."""
        found, rows = torch.unique(labels, return_counts=True)
        if found.tolist() != list(range(self.ways)):
            raise UserError(
                f"a task of the {self.split} taskset has the labels {found.tolist()}, but {self.ways} ways need the "
                f"labels 0..{self.ways - 1}: use NWays(n={self.ways}) and RemapLabels in its task transforms, or set "
                "data.ways"
            )
        each = self.shots + self.queries
        if rows.min() < each:
            raise UserError(
                f"a task of the {self.split} taskset has {int(rows.min())} examples of label {int(rows.argmin())}, "
                f"but shots + queries is {self.shots} + {self.queries} = {each}: use KShots(k={each}) in its task "
                "transforms, or lower data.shots or data.queries"
            )
        by_label = torch.tensor_split(labels.argsort(stable=True), rows.cumsum(0)[:-1].cpu())

        def part(where: slice) -> Labelled:
            chosen = torch.cat([rows_of_label[where] for rows_of_label in by_label])
            return Labelled(data[chosen], labels[chosen].to(torch.int64))

        return Episode(part(slice(0, self.shots)), part(slice(self.shots, each)), torch.tensor(i))

    def _word(self, i: int, which: int) -> int:
        return int(random_words(self.seed, self.split, i, 1, 2)[0, which])


class LearnToLearnTasksets(EpisodicDataModule):
    """Episodes from any learn2learn tasksets: your own, or those of ``learn2learn.vision.benchmarks``.

    A benchmark may draw its class split from Python's generator. ``split_seed`` decides that draw, not ``seed``, so
    that a test on other episodes never uses training classes.

    Args:
        tasksets: three ``learn2learn.data.Taskset`` (training, validation, test), or a function that returns them, or
            its import path, such as ``learn2learn.vision.benchmarks.get_tasksets``. Each task needs the labels
            0..ways-1 and at least shots + queries examples of each, drawn without replacement: otherwise a support
            example could also be a query.
        options: arguments of that function, by name.
        ways: N, labels in a task, in validation and test.
        train_ways: N in training; ``ways`` if not given.
        split_seed: seed of the random state in which the function is called.
        **episodes: the settings of ``EpisodicDataModule``.

    Raises:
        ImportError: learn2learn is not installed.
        UserError: ``tasksets`` cannot be imported, does not accept ``options`` or does not return three tasksets, a
            task does not match the settings, or ``ways`` is below 2.

    References:
        Arnold et al. 2020, learn2learn: A Library for Meta-Learning Research, arXiv:2008.12284.
    """

    def __init__(
        self,
        tasksets: str | Callable[..., Sequence[Any]] | Sequence[Any],
        options: dict[str, Any] | None = None,
        ways: int = 5,
        train_ways: int | None = None,
        split_seed: int = 0,
        **episodes: Any,
    ) -> None:
        super().__init__(**episodes)
        import_learn2learn("data")
        self.ways = ways
        self.train_ways = ways if train_ways is None else train_ways
        at_least(2, ways=ways, train_ways=self.train_ways)
        self.source = _imported(tasksets) if isinstance(tasksets, str) else tasksets
        named = tasksets if isinstance(tasksets, str) else getattr(tasksets, "__qualname__", None)
        self.source_name = named or "given as objects"
        self.options = options or {}
        self.split_seed = split_seed
        self._tasksets: dict[Split, Any] = {}

    def prepare_data(self) -> None:
        """Create the tasksets in one process per machine first."""
        # learn2learn's benchmarks download their files when they are created
        self.tasksets()

    def tasksets(self) -> dict[Split, Any]:
        """Return the taskset of each split."""
        # created together and once, since one draw divides the classes among the three
        if not self._tasksets:
            made = self._call(self.source) if callable(self.source) else self.source
            taskset_class = import_learn2learn("data").Taskset
            three = isinstance(made, Sequence) and len(made) == len(SPLITS)
            if not (three and all(isinstance(taskset, taskset_class) for taskset in made)):
                raise UserError(
                    f"data.tasksets ({self.source_name}) gave {made!r}, but three learn2learn.data.Taskset are "
                    "needed: for training, validation and test"
                )
            self._tasksets = dict(zip(SPLITS, made, strict=True))
        return self._tasksets

    def make_stream(self, split: Split) -> TasksetStream:
        """Return the stream over one split's taskset."""
        train = split == "train"
        stream = TasksetStream(
            self.tasksets()[split],
            split=split,
            seed=self.seed,
            ways=self.train_ways if train else self.ways,
            shots=self.train_shots if train else self.shots,
            queries=self.train_queries if train else self.queries,
        )
        stream(0, 1)  # a task that does not match is reported here, not in the traceback of a worker
        return stream

    def finish(self, episode: Episode, split: Split) -> Episode:
        """Convert uint8 images to floats in [0, 1]; leave other data unchanged."""
        support, query = (part._replace(x=to_unit_interval(part.x)) for part in (episode.support, episode.query))
        return Episode(support, query, episode.index)

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: ways, tasksets, split seed and those of the base class."""
        return {
            "ways": self.ways,
            "tasksets": self.source_name,
            "split_seed": self.split_seed,
            **super().setting(),
        }

    def _call(self, function: Callable[..., Any]) -> Any:
        # checked before the call, whose own TypeErrors are no mistake in the options
        try:
            signature(function).bind(**self.options)
        except TypeError as error:
            raise UserError(
                f"data.options has {sorted(self.options)}, but {self.source_name}{signature(function)} does not take "
                f"that: {error}"
            ) from error
        with random_state(self.split_seed):
            return function(**self.options)


class StoreDataset(Dataset[tuple[Tensor, int]]):
    """The examples of a class store as a map-style dataset of (float input, integer label).

    Attributes:
        labels_to_indices: the examples of each class. ``learn2learn.data.MetaDataset`` reads every example unless it
            receives this and ``indices_to_labels``.
        indices_to_labels: the class of each example.
    """

    def __init__(self, store: ClassStore) -> None:
        self.items = store.items
        self.labels = np.repeat(np.arange(len(store.class_sizes)), store.class_sizes).tolist()
        self.indices_to_labels: dict[int, int] = dict(enumerate(self.labels))
        self.labels_to_indices: dict[int, list[int]] = {label: [] for label in range(len(store.class_sizes))}
        for index, label in enumerate(self.labels):
            self.labels_to_indices[label].append(index)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return to_unit_interval(self.items[index]), self.labels[index]


def as_learn2learn_dataset(store: ClassStore) -> StoreDataset:
    """Return a dataset through which learn2learn can read a metalit split.

    Args:
        store: a split's examples, from ``load`` of any ``ClassificationDataModule``.

    Returns:
        A dataset to wrap as ``learn2learn.data.MetaDataset(dataset, dataset.labels_to_indices,
        dataset.indices_to_labels)``.
    """
    return StoreDataset(store)


def _imported(path: str) -> Any:
    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(
            "data.tasksets",
            path,
            "the import path of a function that returns three learn2learn tasksets, for training, validation and "
            f"test; it cannot be imported ({error})",
        ) from error
