"""Which tasks of molecules have room for a division into support and query."""

from typing import Any, NamedTuple

import numpy as np

from metalit.data.stream import Integers
from metalit.errors import SettingError

Flags = np.ndarray[Any, np.dtype[np.bool_]]


class Room(NamedTuple):
    """Molecules of tasks that are to be divided.

    Attributes:
        names: one name per task.
        sizes: ``[tasks]`` molecules of each.
        active: ``[tasks]`` active ones among them; None in regression.
        shots: molecules of a support set.
    """

    names: list[str]
    sizes: Integers
    active: Integers | None
    shots: int

    @property
    def needed(self) -> int:
        """Molecules that a task needs: beside the support one to be asked about, or one of each class."""
        return self.shots + (1 if self.active is None else 2)

    def usable(self) -> Flags:
        """Return which tasks have them and, in classification, at least two of each class."""
        usable: Flags = self.sizes >= self.needed
        return usable if self.active is None else usable & (np.minimum(self.active, self.sizes - self.active) >= 2)

    def refuse(self, setting: str) -> None:
        """Refuse the tasks that are not usable, if there are any.

        Args:
            setting: name of the option that ``shots`` is from.

        Raises:
            SettingError: there are; the message names the first and says how many there are.
        """
        bad = np.flatnonzero(~self.usable())
        if len(bad):
            both = "" if self.active is None else ", two of each class"
            raise SettingError(
                setting,
                self.shots,
                f"a number that every task has room for; {self.described(int(bad[0]))} and needs {self.needed}{both} "
                f"({len(bad)} of {len(self.names)} tasks have too few): lower it, or leave such tasks out by "
                "data.small_tasks: skip",
            )

    def described(self, task: int) -> str:
        """Return what a task has, for a message."""
        actives = "" if self.active is None else f", {self.active[task]} of them active,"
        return f"{self.names[task]} has {self.sizes[task]} molecules{actives}"
