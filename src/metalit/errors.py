"""Errors as data: which setting cannot be used, what was found, what would be right.

A program reads the attributes, a user the sentence. The command line adds where the setting stands.
"""

import math
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)


class UserError(ValueError):
    """What is wrong with what the user gave, in one message: what was found, what was expected, what to do."""


class SettingError(UserError):
    """A setting that cannot be used.

    Args:
        name: of the setting: as the class that takes it calls it (``inner_steps``), or, where another's is meant, by
            its full name (``data.ways``).
        value: what was found.
        expected: what would be right, and what to do if that is not plain: ``at least 1``.
        owner: the class that takes the setting; whoever makes objects from settings fills it in.
    """

    def __init__(self, name: str, value: Any, expected: str, owner: type | None = None) -> None:
        super().__init__(name, value, expected, owner)
        self.name, self.value, self.expected, self.owner = name, value, expected, owner

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.name} is {self.value}, expected {self.expected}"


def check(name: str, value: Any, right: bool, expected: str) -> None:
    """Refuse the value of a setting.

    Raises:
        SettingError: it is not ``right``.
    """
    if not right:
        raise SettingError(name, value, expected)


def positive(name: str, value: float) -> float:
    """Return a number that must be positive and finite.

    Raises:
        SettingError: it is not.
    """
    check(name, value, 0 < value < math.inf, "a finite number above 0")
    return value


def not_negative(name: str, value: Number) -> Number:
    """Return a number that must be at least 0 and finite.

    Raises:
        SettingError: it is not.
    """
    check(name, value, 0 <= value < math.inf, "a finite number of at least 0")
    return value


def at_least(least: int, **settings: float | None) -> None:
    """Check numbers by their names; one that is None is not given, which is right.

    Raises:
        SettingError: one is below ``least``.
    """
    for name, value in settings.items():
        check(name, value, value is None or value >= least, f"at least {least}")
