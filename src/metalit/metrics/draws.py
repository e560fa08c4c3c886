"""Means over tasks that come in several divisions, with intervals over tasks and over divisions."""

from typing import NamedTuple

from torch import Tensor

from metalit.errors import UserError
from metalit.metrics.intervals import count_undefined, summarise


class TaskSummary(NamedTuple):
    """The mean of a metric over tasks, each of them the mean over its divisions; nan if no task has a value.

    Attributes:
        mean: mean over tasks.
        ci95: half width of the 95 % interval over tasks, 1.96 s/√tasks, s being the standard deviation of the tasks'
            means: how far the mean would differ for other tasks.
        std: s, that standard deviation.
        ci95_draws: half width of the 95 % interval over divisions, 1.96 s/√draws, s being the standard deviation of the
            means over all tasks, one for each division: how far it would differ for other divisions of the same tasks;
            nan for a single one.
        tasks: number of tasks with a value.
        draws: number of divisions.
        undefined: number of episodes without a value, which are left out.
    """

    mean: float
    ci95: float
    std: float
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
        UserError: the last division is not whole.
    """
    if len(values) == 0 or len(values) % tasks:
        raise UserError(f"{len(values)} episodes are no whole number of divisions of {tasks} tasks: test all of them")
    table = values.detach().cpu().double().reshape(-1, tasks)
    of_tasks = table.nanmean(dim=0)  # nan without a value
    over_tasks, over_draws = summarise(of_tasks), summarise(table.nanmean(dim=1))
    known = tasks - count_undefined(of_tasks)
    return TaskSummary(*over_tasks, over_draws.ci95, known, len(table), count_undefined(values))
