"""Which column of a table is what: the task, targets, the group, features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metalit.data.task_tables.reading import RawTable
from metalit.errors import SettingError, UserError

Kind = Literal["regression", "classification"]


@dataclass(frozen=True)
class Roles:
    """What the user says about the columns of a table.

    Args:
        task: column of the task; None if the table is one task.
        targets: columns of the targets.
        features: the columns to learn from; all others that have no role if None.
        ignore: columns to leave out.
        categorical: columns of categories that are written as numbers.
        group: column of groups of rows.
        split: column of the split.
        kind: regression or classification; by the type of the target if None.
        max_categories: the most categories of a column that have an input of their own.

    Raises:
        SettingError: a column has two roles.
    """

    task: str | None
    targets: Sequence[str]
    features: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    categorical: Sequence[str] = ()
    group: str | None = None
    split: str | None = None
    kind: Kind | None = None
    max_categories: int = 32

    def __post_init__(self) -> None:
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise SettingError("target", list(self.targets), "one column, or several that differ")
        taken = {"task_column": self.task, "group_column": self.group, "split_column": self.split}
        for option, name in taken.items():
            if name in self.targets:
                raise SettingError(option, name, "another column than the target's")
        for option, names in (("columns", self.features or ()), ("ignore", self.ignore)):
            if both := set(names) & set(self.targets):
                raise SettingError(option, list(names), f"columns without the target, {min(both)}")
        for name in self.features or ():
            if name in (self.task, self.split):
                raise SettingError("columns", name, "columns without those of task and split")
            if name in self.ignore:
                raise SettingError("columns", name, "columns that are not in ignore")

    def check(self, table: RawTable) -> None:
        """Refuse a name that no column of the table has.

        Raises:
            SettingError: there is no such column; the message names those that there are.
        """
        there = table.columns.column_names
        single = {"task_column": self.task, "group_column": self.group, "split_column": self.split}
        lists = {"target": self.targets, "columns": self.features or (), "ignore": self.ignore}
        lists |= {"categorical": self.categorical} | {key: [name] for key, name in single.items() if name is not None}
        for option, names in lists.items():
            for name in names:
                if name not in there:
                    shown = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
                    raise SettingError(option, name, f"one of the columns of {table.path.name}: {shown}")

    def feature_names(self, table: RawTable) -> list[str]:
        """Return the columns to learn from.

        Raises:
            UserError: there are none.
        """
        if self.features is not None:
            return list(self.features)
        others = {self.task, self.group, self.split, *self.targets, *self.ignore}
        found = [name for name in table.columns.column_names if name not in others]
        if not found:
            raise UserError(f"{table.path} has no column to learn from beside {', '.join(filter(None, others))}")
        return found
