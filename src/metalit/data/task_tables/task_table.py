"""One's own table of many related tasks as a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils._pytree import tree_map

from metalit.data.class_splits import Shares
from metalit.data.stream import SPLITS, Integers, Split
from metalit.data.task_store import TaskStore
from metalit.data.task_stream import TaskStream
from metalit.data.task_tables.cells import texts
from metalit.data.task_tables.coding import TableCoding
from metalit.data.task_tables.fitting import (
    coded_features,
    fitted_features,
    fitted_targets,
    rows_with_targets,
    target_values,
)
from metalit.data.task_tables.reading import RawTable, read_table
from metalit.data.task_tables.roles import Kind, Roles
from metalit.data.task_tables.task_splits import TaskSplits
from metalit.data.tasks import TaskDataModule
from metalit.episode import Episode
from metalit.errors import UserError, at_least, settings_of
from metalit.metrics.episode_metrics import check_metrics

CODING = "table_coding"  # entry of a checkpoint


class TaskTable(TaskDataModule):
    """A table of many related tasks in a CSV, TSV or parquet file, for regression or classification.

    Every row has the name of its task, a target and features. Numbers are standardised, empty cells become the mean
    and are marked by an input of their own, booleans are 0 and 1, dates numbers of days, categories one-hot with one
    input for all that are not among the training rows' most frequent ones. All of that is found on training tasks
    alone and travels in the checkpoint. Targets of regression are standardised too; metrics and predictions are in the
    table's own units, the loss is not.

    Rows without a target are left out, and columns that do not differ between training rows, each with a sentence.

    Args:
        file: the table.
        task_column: the column with the name of a row's task.
        target: the column to be predicted, or several numbers.
        kind: regression or classification; if not given, numbers are regression, texts and booleans classification.
        columns: the columns to learn from; if not given, all that have no other role.
        ignore: columns to leave out, such as a number of the row.
        categorical: columns of categories that are written as numbers.
        group_column: rows of a task with the same entry are never on both sides of its division into support and query.
        splits: how tasks are divided: ``seed``; all to ``test``; lists by split, or a folder with ``train.txt``,
            ``val.txt`` and ``test.txt``; ``auto``: by the next options if one is given, else by seed.
        shares: shares of training, validation and test tasks, for ``seed``.
        split_seed: seed of that division, independent of the episodes' ``seed``.
        split_column: a column with the split of a row's task: train, val or test.
        split_sizes: ``[17, 7]``: tasks of at least 17 rows are for training, of 7 to 16 for validation, smaller for the
            test.
        zero_shot_below: tasks with fewer rows are the test tasks; the others are divided into training and validation.
        max_categories: the most categories of a column that have an input of their own.
        metrics: names of the metrics of a task; ``rmse`` and ``pearson`` in regression, ``accuracy`` in classification,
            if not given.
        **settings: the settings of ``TaskDataModule``.

    Raises:
        SettingError: a setting is out of range, or there is no such file or column.
        UserError: the table cannot be used; the message names line and column.
    """

    sized = ("inputs", "outputs")

    def __init__(
        self,
        file: str,
        task_column: str,
        target: str | list[str],
        kind: Kind | None = None,
        columns: list[str] | None = None,
        ignore: Sequence[str] = (),
        categorical: Sequence[str] = (),
        group_column: str | None = None,
        splits: str | dict[str, list[str]] = "auto",
        shares: Shares = (0.64, 0.16, 0.2),
        split_seed: int = 0,
        split_column: str | None = None,
        split_sizes: list[int] | None = None,
        zero_shot_below: int | None = None,
        max_categories: int = 32,
        metrics: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        at_least(1, max_categories=max_categories, zero_shot_below=zero_shot_below)
        self.file = Path(file).expanduser()
        targets = [target] if isinstance(target, str) else list(target)
        self.roles = Roles(
            task_column, targets, columns, ignore, categorical, group_column, split_column, kind, max_categories
        )
        self.division = TaskSplits(splits, shares, split_seed, split_column, split_sizes, zero_shot_below)
        check_metrics(metrics)
        self.metrics = tuple(metrics)
        self.coding: TableCoding | None = None
        self._is_from_checkpoint = self._is_provisional = False
        self._coded: dict[Split, TaskStore] = {}
        self._counts: dict[str, Any] = {}

    def sizes(self) -> dict[str, int]:
        """Return the lengths that a network must know: ``inputs`` and ``outputs``."""
        coding = self.found_coding()
        return {"inputs": coding.inputs, "outputs": coding.targets.outputs}

    def found_coding(self) -> TableCoding:
        """Return the coding of the training, or else of the training tasks of this table.

        Raises:
            UserError: there are no training tasks.
        """
        self.coded()
        assert self.coding is not None
        self._check_coding()
        return self.coding

    def load(self, split: Split) -> TaskStore:
        """Return the rows of a split in short form, ``Cells``, sorted by task.

        Raises:
            UserError: the split has no tasks.
        """
        store = self.coded()[split]
        if not len(store.task_sizes):
            raise UserError(f"{self.file} has no tasks in the {split} split ({self.division.rule()})")
        return store

    def coded(self) -> dict[Split, TaskStore]:
        """Return the stores of all splits; the file is read at the first call and not kept."""
        if not self._coded:
            with settings_of(type(self)):
                self._coded = self._read()
            assert self.coding is not None
            self.metrics = self.metrics or (("accuracy",) if self.coding.targets.classes else ("rmse", "pearson"))
        return self._coded

    def expanded(self, x: Any) -> Tensor:
        """Return rows in short form as the learner's inputs ``[..., D]``."""
        assert self.coding is not None
        return self.coding.expanded(x)

    def finish(self, episode: Episode, split: Split) -> Episode:
        """Replace row indices by inputs ``[B, n, D]``, 0 where the padding of a task has none."""
        self._check_coding()
        return super().finish(episode, split)

    def own_units(self, values: Tensor) -> Tensor:
        """Return targets or predictions ``[..., outputs]`` in the units of the table; logits are returned unchanged."""
        assert self.coding is not None
        return values if self.coding.targets.classes else self.coding.own_units(values)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of training in its stream, and the coding."""
        return {**super().state_dict(), CODING: self.found_coding().state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position if training, and the coding."""
        self.take_over({type(self).__qualname__: state_dict})
        super().load_state_dict({name: value for name, value in state_dict.items() if name != CODING})

    def take_over(self, checkpoint: Mapping[str, Any]) -> None:
        """Use the coding of a training on this or another table.

        Raises:
            UserError: this table lacks a column of that coding, or has another target.
        """
        super().take_over(checkpoint)
        states = [each[CODING] for each in checkpoint.values() if isinstance(each, dict) and CODING in each]
        if not states:
            return
        coding = TableCoding.restored(states[0])
        trained, own = list(coding.targets.names), list(self.roles.targets)
        if trained != own:
            raise UserError(
                f"the model was trained to predict {', '.join(trained)}, but data.target is {', '.join(own)}"
            )
        self._is_from_checkpoint, self._is_provisional = True, False
        if coding == self.coding:
            return
        self.coding, self._coded = coding, {}
        for split in self.stores:
            # rows keep their order, so a loader that has the stream already needs the new targets only
            self.stores[split] = self.load(split)
            stream = self.streams.get(split)
            if isinstance(stream, TaskStream):
                stream.use_targets(self.stores[split])

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: table, target, split, counts, and those of the base."""
        targets = list(self.roles.targets)
        return {**super().setting(), "target": targets, "task_split": self.division.rule(), **self._counts}

    def _check_coding(self) -> None:
        if self._is_provisional:
            raise UserError(
                f"{self.file} has no training tasks to take the scales of columns from ({self.division.rule()}): "
                "test a checkpoint, whose scales are then used, or divide the tasks by data.splits=seed"
            )

    def _read(self) -> dict[Split, TaskStore]:
        table = read_table(self.file)
        self.roles.check(table)
        used = rows_with_targets(table, self.roles.targets)
        names, of_row = self._tasks(table)
        splits = self.division.divided(table, names, of_row)
        order = used[splits[of_row[used]] >= 0]
        # stable: rows of a task keep the order of the file
        order = order[np.lexsort((of_row[order], splits[of_row[order]]))]
        bounds = np.searchsorted(splits[of_row[order]], [0, 1, 2, 3])
        stores = self._stores(table, order, bounds, of_row, names)
        left = table.columns.num_rows - len(used)
        self._counts = {"rows": len(order), "rows_without_target_left_out": left}
        if left:
            rank_zero_info(f"Table: {left} rows left out, as their target is empty")
        return stores

    def _tasks(self, table: RawTable) -> tuple[list[str], Integers]:
        """Return the names of tasks, sorted, and the number of each row's task."""
        assert self.roles.task is not None
        codes, names = texts(table, self.roles.task)
        if len(empty := np.flatnonzero(codes < 0)):
            raise UserError(f"{table.where(int(empty[0]))}: the column {self.roles.task!r} is empty, expected a task")
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), dtype=np.int64)
        rank[order] = np.arange(len(names))
        return [names[number] for number in order], rank[codes]

    def _stores(
        self, table: RawTable, order: Integers, bounds: Integers, of_row: Integers, names: Sequence[str]
    ) -> dict[Split, TaskStore]:
        training, groups = int(bounds[1]), self._groups(table, order)  # before features give their columns back
        if self._is_from_checkpoint:
            assert self.coding is not None
            cells = coded_features(table, self.coding, order)
        else:
            # without training tasks a checkpoint must bring the coding; until then sizes are all that is needed
            self._is_provisional, training = training == 0, training or len(order)
            targets = fitted_targets(table, self.roles, order, training)
            columns, categories, cells, remarks = fitted_features(table, self.roles, order, training)
            self.coding = TableCoding(tuple(columns), tuple(categories), targets)
            for line in remarks.lines():
                rank_zero_info(line)
        y = target_values(table, self.coding.targets, order)
        stores: dict[Split, TaskStore] = {}
        for split, first, last in zip(SPLITS, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            tasks, sizes = np.unique(of_row[order[first:last]], return_counts=True)
            items = tree_map(lambda leaf, part=slice(first, last): leaf[part], cells)
            own = None if groups is None else groups[first:last]
            stores[split] = TaskStore(items, y[first:last], sizes, [names[task] for task in tasks.tolist()], own)
        return stores

    def _groups(self, table: RawTable, order: Integers) -> Integers | None:
        if self.roles.group is None:
            return None
        codes, names = texts(table, self.roles.group)
        # a row without a group is on its own
        own = np.arange(len(codes)) + len(names)
        return np.where(codes < 0, own, codes)[order]
