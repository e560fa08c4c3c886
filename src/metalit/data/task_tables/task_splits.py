"""Tasks are divided into training, validation and test: by seed, a column, lists, or their numbers of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metalit.data.class_splits import Splits, check_shares, check_splits, drawn, read_lists, split_of
from metalit.data.stream import SPLITS, Integers, Split
from metalit.data.task_tables.cells import texts
from metalit.data.task_tables.reading import RawTable
from metalit.errors import SettingError, UserError, check

RULES = ("auto", "seed", "test")


@dataclass(frozen=True)
class TaskSplits:
    """The rule by which tasks are divided.

    Args:
        splits: ``seed``; ``test``: all are test tasks; lists of tasks by split, or a folder with ``train.txt``,
            ``val.txt`` and ``test.txt``; ``auto``: by the column or the sizes if these are given, else by seed.
        shares: shares of training, validation and test tasks, for ``seed``.
        seed: the seed of ``seed``.
        column: a column of the table that names the split of each row's task.
        sizes: two numbers of rows: tasks with at least the first are for training, others with at least the second for
            validation, and the rest for the test.
        zero_shot_below: tasks with fewer rows are the test tasks; training and validation tasks are drawn from the
            others by their shares.

    Raises:
        SettingError: a setting is out of range, or two of them contradict each other.
    """

    splits: Splits = "auto"
    shares: Sequence[float] = (0.64, 0.16, 0.2)
    seed: int = 0
    column: str | None = None
    sizes: Sequence[int] | None = None
    zero_shot_below: int | None = None

    def __post_init__(self) -> None:
        check_shares(self.shares)
        if not isinstance(self.splits, str) or self.splits not in RULES:
            check_splits(self.splits)
        given = {"split_column": self.column, "split_sizes": self.sizes, "zero_shot_below": self.zero_shot_below}
        names = [name for name, value in given.items() if value is not None]
        if len(names) + (self.splits != "auto") > 1:
            raise SettingError("splits", self.splits, f"one rule; {', '.join(names)} is another: drop one")
        if self.sizes is not None:
            right = len(self.sizes) == 2 and self.sizes[0] > self.sizes[1] > 0
            check("split_sizes", list(self.sizes), right, "two numbers above 0, the larger first, such as [17, 7]")

    def divided(self, table: RawTable, names: Sequence[str], codes: Integers) -> Integers:
        """Return the number in ``SPLITS`` of each task, ``[tasks]`` int64; -1 for a task in none.

        Args:
            table: the table.
            names: names of the tasks.
            codes: ``[rows]`` number of each row's task.

        Raises:
            UserError: the column has a task in two splits, or none, or a list has a task that does not exist.
        """
        if self.column is not None:
            return _by_column(table, self.column, names, codes)
        return self.by_rule(names, np.bincount(codes, minlength=len(names)))

    def by_rule(self, names: Sequence[str], counts: Integers) -> Integers:
        """Return the number in ``SPLITS`` of each task, ``[tasks]`` int64, by any rule but that of a column.

        Args:
            names: names of the tasks.
            counts: ``[tasks]`` number of examples of each.

        Raises:
            UserError: a list has a task that does not exist.
        """
        if self.sizes is not None:
            train, val = self.sizes
            return np.where(counts >= train, 0, np.where(counts >= val, 1, 2))
        if self.zero_shot_below is not None:
            small = counts < self.zero_shot_below
            large = [name for name, is_small in zip(names, small, strict=True) if not is_small]
            share = self.shares[1] / (self.shares[0] + self.shares[1])
            found = drawn({name: name for name in large}, (1 - share, share, 0.0), self.seed)
            return np.where(small, 2, _numbers(found, names))
        if self.splits in ("auto", "seed"):
            return _numbers(drawn({name: name for name in names}, self.shares, self.seed), names)
        if self.splits == "test":
            return np.full(len(names), 2)
        lists = read_lists(self.splits)
        known = set(names)
        if unknown := [name for some in lists.values() for name in some if name not in known]:
            shown = ", ".join(sorted(names)[:5])
            raise UserError(f"data.splits: there is no task {unknown[0]} among the {len(names)} tasks ({shown}, ...)")
        return _numbers(lists, names)

    def is_open(self) -> bool:
        """Whether the settings leave the rule to the data."""
        return self.splits == "auto" and (self.column, self.sizes, self.zero_shot_below) == (None, None, None)

    def rule(self) -> str:
        """Return the rule in words."""
        if self.column is not None:
            return f"by the column {self.column}"
        if self.sizes is not None:
            return f"by size: training from {self.sizes[0]} rows on, validation from {self.sizes[1]}, test below"
        shares = f"seed {self.seed}, shares {' / '.join(f'{share:.3g}' for share in self.shares)}"
        if self.zero_shot_below is not None:
            return f"test below {self.zero_shot_below} rows, the others by {shares}"
        if self.splits in ("auto", "seed"):
            return f"by {shares}"
        return "all are test tasks" if self.splits == "test" else "by lists"


def _numbers(found: Mapping[Split, Sequence[str]], names: Sequence[str]) -> Integers:
    split = {name: SPLITS.index(of) for of, some in found.items() for name in some}
    return np.array([split.get(name, -1) for name in names], dtype=np.int64)


def _by_column(table: RawTable, column: str, names: Sequence[str], codes: Integers) -> Integers:
    of_row, words = texts(table, column)
    if len(empty := np.flatnonzero(of_row < 0)):
        raise UserError(f"{table.where(int(empty[0]))}: the column {column!r} is empty, expected the split of its task")
    numbers = np.array([SPLITS.index(split_of(word)) for word in words], dtype=np.int64)[of_row]
    found = np.zeros(len(names), dtype=np.int64)
    found[codes] = numbers
    if len(wrong := np.flatnonzero(found[codes] != numbers)):
        row = int(wrong[0])
        one, other = SPLITS[numbers[row]], SPLITS[found[codes[row]]]
        raise UserError(
            f"{table.where(row)}: the task {names[codes[row]]} is in two splits, {one} and {other}: a task is tested "
            "only if nothing of it was trained on"
        )
    return found
