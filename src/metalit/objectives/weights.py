"""The weight of a term in a meta-loss."""

import math


def check_weight(name: str, value: float) -> float:
    """Return a weight.

    Raises:
        ValueError: it is negative or not finite.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}, but must be at least 0 and finite")
    return value
