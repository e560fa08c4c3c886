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
