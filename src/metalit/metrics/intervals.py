"""Means over episodes and over runs, with their 95 % confidence intervals."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from metalit.errors import UserError

NORMAL_QUANTILE = 1.96  # 97.5 % quantile of the normal distribution: half width of a 95 % interval in standard errors


class Summary(NamedTuple):
    """The mean of a metric over n episodes, and how precisely it estimates the mean over all episodes.

    Attributes:
        mean: mean over the episodes.
        ci95: half width of the 95 % confidence interval, 1.96 s/√n; nan for a single episode.
        std: s, the standard deviation over the episodes, with n-1 in the denominator; nan for a single episode.
    """

    mean: float
    ci95: float
    std: float


def summarise(values: Tensor) -> Summary:
    """Return mean, interval and standard deviation of one value per episode, computed in float64.

    Args:
        values: ``[n]``, n >= 1. NaN stands for undefined and is left out; if all are, so are the results.

    Raises:
        UserError: there are no values.
    """
    if len(values) == 0:
        raise UserError("there is no episode to summarise: evaluate at least one")
    exact = values.detach().cpu().double()
    exact = exact[~exact.isnan()]
    n = len(exact)
    if n == 0:
        return Summary(math.nan, math.nan, math.nan)
    # torch.std would return nan for a single value too, but with a warning
    std = exact.std().item() if n > 1 else math.nan
    return Summary(exact.mean().item(), NORMAL_QUANTILE * std / math.sqrt(n), std)


def count_undefined(values: Tensor) -> int:
    """Return for how many episodes a metric is undefined, of one value ``[n]`` per episode."""
    return int(values.isnan().sum())


def summarise_runs(values: Sequence[float]) -> Summary:
    """Return mean, Student's interval and standard deviation of one value per run.

    Args:
        values: any number of them.

    Returns:
        The mean, the half width t s/√n of the 95 % interval, with the quantile t of n-1 degrees of freedom, and s; nan
        where there are too few runs.
    """
    n = len(values)
    mean = statistics.fmean(values) if values else math.nan
    if n < 2:
        return Summary(mean, math.nan, math.nan)
    from scipy.special import stdtrit  # not at the top: only the command collect needs it

    std = statistics.stdev(values)
    # The normal quantile 1.96 is too small for few runs: with 3 of them its interval would cover the mean in only 81 %
    # of all cases. Student's is 4.30 there.
    return Summary(mean, float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n), std)
