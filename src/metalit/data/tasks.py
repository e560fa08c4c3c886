"""The base class of data sets of tasks that have a size of their own: tables, molecules, complexes."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from metalit.data.module import EpisodicDataModule
from metalit.data.stream import Split
from metalit.data.task_store import TaskStore
from metalit.data.task_stream import TaskStream, Weighting, cleared
from metalit.episode import Episode, Labelled, labelled
from metalit.errors import at_least


class TaskDataModule(EpisodicDataModule, ABC):
    """Tasks that are given, each with examples of its own, of unequal number. A subclass implements ``load``.

    An episode is one task and a random division of its examples into support and query; ``TaskStream`` has the rules.
    The loader returns row indices; the examples are gathered from the store where it lies.

    Args:
        shots: support examples of a task; smaller tasks have all but one in the support.
        queries: query examples of a task at most, in validation and test; all others if None.
        train_queries: query examples at most in training; ``queries`` if not given.
        val_draws: divisions of each validation task: ``val_episodes`` is so many times the number of tasks.
        test_draws: divisions of each test task.
        val_episodes: validation episodes, if not a whole number of draws.
        test_episodes: test episodes, if not a whole number of draws.
        weighting: draw training tasks with equal probability, or in proportion to their rows.
        stratified: in classification, give each class its share of the support.
        store_on_accelerator: keep the whole store in the accelerator's memory; no effect on a CPU.
        **episodes: the other settings of ``EpisodicDataModule``.
    """

    def __init__(
        self,
        shots: int = 10,
        queries: int | None = None,
        train_queries: int | None = None,
        val_draws: int = 1,
        test_draws: int = 1,
        val_episodes: int | None = None,
        test_episodes: int | None = None,
        weighting: Weighting = "tasks",
        stratified: bool = False,
        store_on_accelerator: bool = True,
        **episodes: Any,
    ) -> None:
        # checked here: the base class has numbers where None stands for all
        at_least(1, queries=queries, train_queries=train_queries, val_draws=val_draws, test_draws=test_draws)
        at_least(1, val_episodes=val_episodes, test_episodes=test_episodes)
        super().__init__(shots=shots, **episodes)
        self.query_limit, self.train_query_limit = queries, queries if train_queries is None else train_queries
        self.draws: dict[Split, int] = {"val": val_draws, "test": test_draws}
        self.limits: dict[Split, int | None] = {"val": val_episodes, "test": test_episodes}
        self.weighting, self.stratified = weighting, stratified
        self.store_on_accelerator = store_on_accelerator
        self.stores: dict[Split, TaskStore] = {}

    @abstractmethod
    def load(self, split: Split) -> TaskStore:
        """Return all examples of a split, sorted by task; splits must not share a task."""

    def make_stream(self, split: Split) -> TaskStream:
        """Load the store of a split and return the stream of its episodes."""
        self.stores[split] = store = self.load(split)
        train = split == "train"
        stream = TaskStream(
            store,
            split=split,
            seed=self.seed,
            shots=self.train_shots if train else self.shots,
            queries=self.train_query_limit if train else self.query_limit,
            weighting=self.weighting,
            stratified=self.stratified,
        )
        if split == "val":
            self.val_episodes = self.limits[split] or len(stream) * self.draws[split]
        elif split == "test":
            self.test_episodes = self.limits[split] or len(stream) * self.draws[split]
        return stream

    def finish(self, episode: Episode, split: Split) -> Episode:
        """Replace row indices by examples, 0 where the padding of a task has none."""
        device = episode.index.device
        # moved at the first episode, since only then the learner's device is known
        if self.store_on_accelerator and self.stores[split].device != device:
            self.stores[split] = self.stores[split].to(device)
        both = episode.support, episode.query
        support, query = map(self.finished, both, self.stores[split].parts(*(part.x for part in both)))
        return Episode(support, query, episode.index)

    def finished(self, part: Labelled, x: Any) -> Labelled:
        """Return the examples of one part of an episode on the learner's device, given its rows of the store."""
        x = self.expanded(tree_map(lambda leaf: leaf.to(part.y.device, non_blocking=True), x))
        if part.mask is not None:
            mask = part.mask
            x = tree_map(lambda leaf: cleared(leaf, mask), x)
        return labelled(x, part.y, part.mask)

    def expanded(self, x: Any) -> Any:
        """Return stored examples as the learner sees them; unchanged unless a subclass stores them in short form."""

        def default(leaf: Tensor) -> Tensor:
            return leaf.to(torch.get_default_dtype()) if leaf.is_floating_point() else leaf

        return tree_map(default, x)

    def task_name(self, split: Split, index: int) -> str:
        """Return the name of the task of an episode, given its number in the stream."""
        if split not in self.streams:
            self.streams[split] = self.checked_stream(split)
        stream = self.streams[split]
        assert isinstance(stream, TaskStream)
        return self.stores[split].task_names[stream.task(index)]

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: rows of a query, draws, tasks left out."""
        streams = {name: each for name, each in self.streams.items() if isinstance(each, TaskStream)}
        return {
            **super().setting(),
            "queries": self.query_limit,
            "draws": self.draws["test"],
            "stratified": self.stratified,
            "tasks": {name: len(each) for name, each in streams.items()},
            "tasks_left_out": {name: len(each.left_out) for name, each in streams.items() if each.left_out},
        }
