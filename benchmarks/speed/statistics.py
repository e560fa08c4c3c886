"""Medians and quartiles of ratios taken round by round."""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import NamedTuple


class Spread(NamedTuple):
    """The median of some figures and their quartiles."""

    median: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.lower)} to {short(self.upper)})"


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles; of a single figure, that figure."""
    lower, _, upper = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return Spread(median(values), lower, upper)


def ratios(ones: Sequence[float], others: Sequence[float]) -> Spread:
    """Return median and quartiles of one / other, round by round: both figures of a round saw the same machine."""
    return spread([one / other for one, other in zip(ones, others, strict=True)])


def short(value: float) -> str:
    """Return a figure of three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
