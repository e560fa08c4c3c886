"""Which task belongs to which split."""

from collections.abc import Sequence

import numpy as np

from metalit.data.graphs.graph import Graph
from metalit.data.stream import SPLITS, Integers
from metalit.data.task_tables.task_splits import TaskSplits
from metalit.errors import SettingError, UserError


def divided(graphs: Sequence[Graph], division: TaskSplits, given: bool) -> tuple[Integers, str]:
    """Return the number in ``SPLITS`` of each graph's split, ``[n]`` int64, -1 for none, and the rule in words.

    Args:
        graphs: the graphs.
        division: the rule of the settings.
        given: whether the graphs must say it.

    Raises:
        SettingError: the graphs must say it and do not.
        UserError: a task is in two splits, or in none.
    """
    says = any(graph.split is not None for graph in graphs)
    if given and not says:
        raise SettingError("splits", "given", "auto, seed, test or lists of tasks: the graphs have no split")
    names, codes = np.unique([graph.task for graph in graphs], return_inverse=True)
    if given or (says and division.is_open()):
        return _given(graphs, names.tolist(), codes), "as given by the graphs"
    return division.by_rule(names.tolist(), np.bincount(codes))[codes], division.rule()


def _given(graphs: Sequence[Graph], names: list[str], codes: Integers) -> Integers:
    first: dict[int, Graph] = {}
    for graph, code in zip(graphs, codes.tolist(), strict=True):
        if graph.split is None:
            raise UserError(f"{graph.name}: it has no split, and others have: add it, or set data.splits to seed")
        if first.setdefault(code, graph).split != graph.split:
            raise UserError(
                f"{graph.name}: its task {names[code]} is in two splits, {first[code].split} ({first[code].name}) and "
                f"{graph.split}: a task is tested only if nothing of it was trained on"
            )
    return np.array([SPLITS.index(graph.split) for graph in graphs if graph.split is not None], dtype=np.int64)
