"""Settings that must lie in a range."""

import math
from typing import TypeVar

Number = TypeVar("Number", int, float)


def positive(name: str, value: float) -> float:
    """Return a number that must be positive and finite.

    Raises:
        ValueError: it is not.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}, but must be positive and finite")
    return value


def not_negative(name: str, value: Number) -> Number:
    """Return a number that must be at least 0 and finite.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}, but must be at least 0 and finite")
    return value


def at_least(least: int, **settings: float | None) -> None:
    """Check numbers by their names; one that is None is not given, which is right.

    Raises:
        ValueError: one is below ``least``.
    """
    for name, value in settings.items():
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}, but must be at least {least}")
