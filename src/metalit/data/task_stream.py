"""Episodes of tasks of unequal size: a task and a random division of its rows into support and query."""

from typing import Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from metalit.data.stream import Integers, Split, Words, numbers, random_words, uniform
from metalit.data.task_division import Division, Flags, divide, divide_by_classes, divide_by_groups, places
from metalit.data.task_store import TaskStore
from metalit.episode import Episode, Labelled, labelled
from metalit.errors import check
from metalit.functional.batches import padded

Weighting = Literal["tasks", "rows"]
WORDS = 4  # per episode: the task, two for its division, one unused


class TaskStream:
    """Episodes over a task-indexed store, as *row indices* of that store, with their targets.

    In training, episode i is a task drawn with replacement. In validation and test it is task ``i mod tasks``, in its
    division number ``i // tasks``, so that each task comes equally often. Support and query are separated here and
    nowhere else; they share no row and no group.

    A task must have a row for each side: two rows, or two groups. In classification it must have two classes and one
    row more than classes, since the support holds at least one of each class. Other tasks are left out, with a sentence
    that counts them.

    Args:
        store: the store.
        split: the split, which selects the random stream and the order of tasks.
        seed: the stream's seed.
        shots: rows of a support set; smaller tasks have all rows but one in it, or all groups but one.
        queries: rows of a query set at most; all others of the task if None.
        weighting: draw training tasks with equal probability, or in proportion to their rows.
        stratified: in classification without groups, give each class its share of the support.

    Raises:
        SettingError: there is no task that can be divided.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        split: Split,
        seed: int,
        shots: int,
        queries: int | None = None,
        weighting: Weighting = "tasks",
        stratified: bool = False,
    ) -> None:
        self.split, self.seed, self.shots, self.queries, self.stratified = split, seed, shots, queries, stratified
        self.groups = store.groups
        self.use_targets(store)
        sizes, starts = store.task_sizes, np.cumsum(store.task_sizes) - store.task_sizes
        usable, largest, most_classes = self._usable(sizes)
        self.tasks = np.flatnonzero(usable)  # numbers in the store
        self.left_out = [store.task_names[number] for number in np.flatnonzero(~usable).tolist()]
        check("shots", shots, len(self.tasks) > 0, self._needed(len(sizes)))
        self.sizes, self.starts = sizes[usable], starts[usable]
        self.cumulative = np.cumsum(self.sizes) if weighting == "rows" else None
        # what every task can give, so that a part is padded only if it has to be
        support = np.maximum(shots, most_classes[usable])
        self.support_is_full = bool((support == shots).all() and (shots <= self.sizes - largest[usable]).all())
        spare = self.sizes - np.minimum(support, self.sizes - largest[usable]) - (largest[usable] - 1)
        self.query_is_full = queries is not None and store.groups is None and bool((queries <= spare).all())
        most = int(self.sizes.max()) - 1
        self.longest = int(support.max()), most if queries is None else min(queries, most)
        self._say(len(sizes))

    def __len__(self) -> int:
        """Return the number of tasks that are used."""
        return len(self.tasks)

    def __call__(self, first: int, count: int) -> Episode:
        """Return episodes ``first .. first+count-1``, rows and targets ``[count, rows]``, padded where tasks differ."""
        words = random_words(self.seed, self.split, first, count, WORDS)
        used = self._used(words, first)
        sizes, starts = self.sizes[used], self.starts[used]
        rows = np.repeat(starts, sizes) + places(sizes)
        division = self._division(words[:, 1:3], sizes, rows)
        rows = rows[division.order]
        begin = np.cumsum(sizes) - sizes
        query = sizes - division.query_start
        if self.queries is not None:
            query = np.minimum(query, self.queries)
        support = self._part(rows, begin, division.support, self.support_is_full, 0)
        part = self._part(rows, begin + division.query_start, query, self.query_is_full, 1)
        return Episode(support, part, numbers(first, count))

    def use_targets(self, store: TaskStore) -> None:
        """Use the targets of a store of the same rows, in another coding."""
        self.targets = store.targets.cpu()
        self.labels = self.targets.numpy() if store.classification else None

    def task(self, index: int) -> int:
        """Return the number in the store of the task of an episode."""
        words = random_words(self.seed, self.split, index, 1, WORDS)
        return int(self.tasks[self._used(words, index)][0])

    def _used(self, words: Words, first: int) -> Integers:
        if self.split != "train":
            return (first + np.arange(len(words))) % len(self.tasks)
        unit = uniform(words[:, 0])
        if self.cumulative is None:
            return (unit * len(self.tasks)).astype(np.int64)
        found: Integers = np.searchsorted(self.cumulative, unit * self.cumulative[-1], side="right")
        return found

    def _division(self, words: Words, sizes: Integers, rows: Integers) -> Division:
        labels = None if self.labels is None else self.labels[rows]
        if self.groups is not None:
            return divide_by_groups(words, sizes, self.shots, self.groups[rows], labels)
        if labels is not None:
            return divide_by_classes(words, sizes, self.shots, labels, self.stratified)
        return divide(words, sizes, self.shots)

    def _part(self, rows: Integers, begin: Integers, lengths: Integers, full: bool, side: int) -> Labelled:
        # rounded up, so that few shapes have to be compiled; never beyond what the largest task has
        length = int(lengths.max()) if full else min(padded(int(lengths.max())), self.longest[side])
        place = np.arange(length)
        there = place < lengths[:, None]
        chosen = torch.from_numpy(rows[np.minimum(begin[:, None] + place, len(rows) - 1)])
        y = self.targets[chosen]
        if y.is_floating_point():
            y = y.to(torch.get_default_dtype())
        if full:
            return Labelled(chosen, y)
        mask = torch.from_numpy(there)
        return labelled(chosen.where(mask, 0), cleared(y, mask), mask)

    def _usable(self, sizes: Integers) -> tuple[Flags, Integers, Integers]:
        """Return which tasks can be divided, the size of their largest group and their number of classes, [tasks]."""
        slots = np.repeat(np.arange(len(sizes)), sizes)
        largest, sides, classes = np.ones_like(sizes), sizes, np.ones_like(sizes)
        if self.groups is not None:
            counts = _counts(slots, self.groups)
            sides, largest = np.bincount(counts[0], minlength=len(sizes)), np.zeros_like(sizes)
            np.maximum.at(largest, counts[0], counts[1])
        usable = sides >= 2
        if self.labels is not None:
            classes = np.bincount(_counts(slots, self.labels)[0], minlength=len(sizes))
            usable &= (classes >= 2) & (sizes > classes)
        return usable, largest, classes if self.labels is not None else np.ones_like(sizes)

    def _needed(self, tasks: int) -> str:
        sides = "two rows" if self.groups is None else "two groups"
        classes = "" if self.labels is None else ", two classes and one row more than classes"
        return f"a {self.split} split with a task of at least {sides}{classes}; none of its {tasks} tasks has that"

    def _say(self, tasks: int) -> None:
        if self.left_out:
            sides = "two rows" if self.groups is None else "two groups of rows"
            classes = "" if self.labels is None else ", or fewer than two classes"
            shown = ", ".join(self.left_out[:3]) + (", ..." if len(self.left_out) > 3 else "")
            rank_zero_info(
                f"Tasks: {len(self.left_out)} of {tasks} left out of the {self.split} split, with fewer than {sides}"
                f"{classes}: {shown}"
            )


def cleared(values: Tensor, mask: Tensor) -> Tensor:
    """Return values ``[B, n, *features]`` with 0 where the mask ``[B, n]`` is False."""
    return values.masked_fill(~mask.reshape(*mask.shape, *[1] * (values.dim() - mask.dim())), 0)


def _counts(slots: Integers, numbers: Integers) -> tuple[Integers, Integers]:
    """Return slot and number of rows of each distinct pair."""
    order = np.lexsort((numbers, slots))
    slots, numbers = slots[order], numbers[order]
    begin = np.flatnonzero(np.append(True, (slots[1:] != slots[:-1]) | (numbers[1:] != numbers[:-1])))
    return slots[begin], np.diff(np.append(begin, len(slots)))
