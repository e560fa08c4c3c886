"""Errors as data: the setting that is invalid, the value found, and the values expected.

Programs read the attributes, users the message. The command line adds the option and the file of the setting.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)


class UserError(ValueError):
    """A mistake in the user's input, with one message: what was found, what was expected, what to do.

    Attributes:
        setting: the parameter's name, if the message is about one of the class that raised it.
    """

    setting: str | None = None


class SettingError(UserError):
    """A setting with an invalid value.

    Args:
        name: the parameter's name in the class that takes it (``inner_steps``), or its full name (``data.ways``) if
            it belongs to another class.
        value: the value found.
        expected: the valid values, such as ``at least 1``, and the remedy if it is not obvious.
        owner: the class that takes the setting; filled in by the code that instantiates classes from settings.
    """

    def __init__(self, name: str, value: Any, expected: str, owner: type | None = None) -> None:
        super().__init__(name, value, expected, owner)  # all arguments, so that the error can be pickled
        self.name, self.value, self.expected, self.owner = name, value, expected, owner

    def __str__(self) -> str:
        """Return the message."""
        return f"{self.name} is {self.value}, expected {self.expected}"


@contextmanager
def settings_of(owner: type) -> Iterator[None]:
    """Note in every ``SettingError`` from here that the setting is one of ``owner``, unless it says so itself."""
    try:
        yield
    except SettingError as error:
        error.owner = error.owner or owner
        raise


@contextmanager
def about(setting: str) -> Iterator[None]:
    """Note in every ``UserError`` from here which setting it is about."""
    try:
        yield
    except UserError as error:
        error.setting = setting
        raise


def check(name: str, value: Any, right: bool, expected: str) -> None:
    """Refuse the value of a setting, with a ``SettingError``, unless the condition ``right`` holds."""
    if not right:
        raise SettingError(name, value, expected)


def positive(name: str, value: float) -> float:
    """Return a number, refused unless it is above 0 and finite."""
    check(name, value, 0 < value < math.inf, "a finite number above 0")
    return value


def not_negative(name: str, value: Number) -> Number:
    """Return a number, refused unless it is at least 0 and finite."""
    check(name, value, 0 <= value < math.inf, "a finite number of at least 0")  # nan fails both comparisons
    return value


def at_least(least: int, **settings: float | None) -> None:
    """Refuse the first of the named numbers that is below ``least``; None means not given and passes."""
    for name, value in settings.items():
        check(name, value, value is None or value >= least, f"at least {least}")
