"""Means over tasks that come in several divisions, with intervals over tasks and over divisions."""

import math
from typing import NamedTuple

from torch import Tensor

from metalit.errors import UserError
from metalit.metrics.intervals import summarise


class TaskSummary(NamedTuple):
    """The mean of a metric over tasks, each of them the mean over its divisions.

    Attributes:
        mean: mean over tasks.
        ci95: half width of the 95 % interval over tasks, 1.96 s/√tasks, s being the standard deviation of the tasks'
            means: how far the mean would differ for other tasks.
        ci95_draws: half width of the 95 % interval over divisions, 1.96 s/√draws, s being the standard deviation of the
            means over all tasks, one for each division: how far it would differ for other divisions of the same tasks;
            nan for a single one.
        tasks: number of tasks with a value.
        draws: number of divisions.
        undefined: number of episodes without a value, which are left out.
    """

    mean: float
    ci95: float
    ci95_draws: float
    tasks: int
    draws: int
    undefined: int


def summarise_tasks(values: Tensor, tasks: int) -> TaskSummary:
    """Summarise values of a stream of tasks, of which episode i is task ``i mod tasks``.

    Args:
        values: ``[draws * tasks]``, in the order of the stream; nan where a metric is undefined.
        tasks: number of tasks, >= 1.

    Raises:
        UserError: the last division is not whole, or no value is defined.
    """
    if len(values) == 0 or len(values) % tasks:
        raise UserError(f"{len(values)} episodes are no whole number of divisions of {tasks} tasks: test all of them")
    table = values.detach().cpu().double().reshape(-1, tasks)
    defined = ~table.isnan()
    of_tasks = table.nanmean(dim=0)[defined.any(dim=0)]
    if len(of_tasks) == 0:
        raise UserError("the metric is undefined in every episode")
    over_tasks = summarise(of_tasks)
    over_draws = summarise(table.nanmean(dim=1)[defined.any(dim=1)])
    interval = over_draws.ci95 if len(table) > 1 else math.nan
    undefined = int((~defined).sum())
    return TaskSummary(over_tasks.mean, over_tasks.ci95, interval, len(of_tasks), len(table), undefined)
