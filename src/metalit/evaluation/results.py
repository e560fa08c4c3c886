"""Result files: a summary to read, and per-episode values to compare two algorithms on the same episodes."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from metalit.errors import UserError
from metalit.files import keep_old, write_csv, write_text
from metalit.metrics.draws import summarise_tasks
from metalit.metrics.episode_values import Evaluation
from metalit.metrics.intervals import Summary, count_undefined, summarise

RESULTS_FILE = "results.json"
EPISODES_FILE = "episodes.csv"
EPISODE_SETTINGS = ("data", "ways", "shots", "queries", "data_seed")  # with the split, they determine episode i

Results: TypeAlias = dict[str, Any]


def build_results(
    split: str, evaluation: Evaluation, setting: Mapping[str, Any], checkpoint: str | None, versions: Mapping[str, str]
) -> Results:
    """Summarise an evaluation in the format of ``results.json``.

    Args:
        split: ``val`` or ``test``.
        evaluation: the values of at least one episode.
        setting: the settings that a reader needs in order to judge or reproduce the result.
        checkpoint: file of the evaluated weights; None if they came from memory.
        versions: versions of the software used.

    Returns:
        ``{"split", "episodes", "metrics": {name: {"mean", "ci95", "std"}}, "setting", "checkpoint", "versions"}``.
        Episodes for which a metric is undefined are left out of its numbers, which then have their number beside them,
        ``"undefined"``.
        Each metric is taken after the last adaptation step. For algorithms that adapt in steps,
        ``<name>_before_adaptation`` is the metric before the first step, and
        ``"by_step": {name: [{"step", "mean", "ci95", "std"}]}`` holds all steps. Numbers that are not finite, such as
        the interval of a single episode or the mean of none, become None.
        Of data whose tasks come in several divisions (``setting["tasks"]``), a metric is the mean over tasks, each the
        mean of its divisions, with the interval over tasks, and ``ci95_draws`` is the interval over divisions: those of
        one task are not independent.
    """
    metrics, by_step = {}, {}
    tasks = _divided_tasks(split, evaluation, setting)
    for name, values in evaluation.values.items():
        summaries = [_summarised(column, tasks) for column in values.unbind(dim=1)]
        metrics[name] = summaries[-1]
        if len(summaries) > 1:
            metrics[f"{name}_before_adaptation"] = summaries[0]
            by_step[name] = [{"step": step, **summary} for step, summary in enumerate(summaries)]
    return {
        "split": split,
        "episodes": len(evaluation.indices),
        "metrics": metrics,
        **({"by_step": by_step} if by_step else {}),
        "setting": dict(setting),
        "checkpoint": checkpoint,
        "versions": dict(versions),
    }


def write_results(folder: Path, results: Results, evaluation: Evaluation) -> Path:
    """Write ``results.json`` and ``episodes.csv``; existing results are renamed with a number (results-1.json).

    ``episodes.csv`` has the column ``episode``, one column per metric and, for algorithms that adapt in steps, the
    columns ``<name>_step<k>`` from 0 (before adaptation) to the last step. A cell is empty where the metric is
    undefined.

    Args:
        folder: where to write; created if it does not exist.
        results: from ``build_results``.
        evaluation: the values that ``results`` summarises.

    Returns:
        Path of ``results.json``.
    """
    path, text = folder / RESULTS_FILE, json.dumps(results, indent=2, allow_nan=False, default=str)
    keep_old(path, folder / EPISODES_FILE)
    write_csv(folder / EPISODES_FILE, _episode_rows(evaluation))
    write_text(path, text + "\n")
    return path


def read_results(folder: Path) -> Results:
    """Read the ``results.json`` of a run folder.

    Raises:
        FileNotFoundError: the folder has no such file.
        UserError: the file is damaged.
    """
    path = _existing(folder, RESULTS_FILE)
    try:
        results: Results = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): test the run again") from error
    if not isinstance(results, dict) or not {"split", "episodes", "metrics", "setting"} <= results.keys():
        raise UserError(f"{path} is damaged, it lacks some of its entries: test the run again")
    return results


def read_episodes(folder: Path) -> dict[str, Tensor]:
    """Read the ``episodes.csv`` of a run folder.

    Returns:
        By column: ``episode`` as ``[n]`` int64, all others as ``[n]`` float64, NaN where the metric is undefined.

    Raises:
        FileNotFoundError: the folder has no such file.
    """
    with _existing(folder, EPISODES_FILE).open(newline="") as file:
        header, *rows = csv.reader(file)
    table = torch.tensor([[float(cell or math.nan) for cell in row] for row in rows], dtype=torch.float64)
    columns = dict(zip(header, table.reshape(len(rows), len(header)).unbind(dim=1), strict=True))
    return columns | {"episode": columns["episode"].long()}


def paired_difference(folder_a: Path, folder_b: Path, metric: str) -> Summary:
    """Summarise the per-episode difference ``a - b`` of two runs evaluated on the same episodes.

    The interval is that of the difference, in which most of the variation between episodes cancels because it is common
    to both runs. Episodes in which the metric is undefined for one of the runs are left out.

    Args:
        folder_a: run folder of one algorithm.
        folder_b: run folder of the other.
        metric: a column of ``episodes.csv``, such as ``accuracy`` or ``accuracy_step1``.

    Raises:
        FileNotFoundError: a folder has no results.
        UserError: the episodes differ, or a folder has no such metric.
    """
    a, b = ({**results["setting"], "split": results["split"]} for results in map(read_results, (folder_a, folder_b)))
    for name in ("split", *EPISODE_SETTINGS):
        if a.get(name) != b.get(name):
            raise UserError(
                f"{folder_a} and {folder_b} were not evaluated on the same episodes: {name} is {a.get(name)!r} in the "
                f"first and {b.get(name)!r} in the second; evaluate both with the same setting"
            )
    episodes_a, episodes_b = read_episodes(folder_a), read_episodes(folder_b)
    if not torch.equal(episodes_a["episode"], episodes_b["episode"]):
        raise UserError(
            f"{folder_a} and {folder_b} were not evaluated on the same episodes: {len(episodes_a['episode'])} episodes "
            f"in the first, {len(episodes_b['episode'])} in the second; evaluate both on equally many"
        )
    for folder, episodes in ((folder_a, episodes_a), (folder_b, episodes_b)):
        if metric not in episodes or metric == "episode":
            known = ", ".join(name for name in episodes if name != "episode")
            raise UserError(f"{folder / EPISODES_FILE} has no metric {metric!r}; it has {known}")
    return summarise(episodes_a[metric] - episodes_b[metric])


def _summarised(values: Tensor, tasks: int | None) -> dict[str, float | None]:
    summary = summarise(values)._asdict() if tasks is None else summarise_tasks(values, tasks)._asdict()
    summary.pop("undefined", None)
    # JSON has no nan, and a strict parser would reject the whole file
    numbers = {name: value if math.isfinite(value) else None for name, value in summary.items()}
    undefined = count_undefined(values)
    return {**numbers, "undefined": undefined} if undefined else numbers


def _divided_tasks(split: str, evaluation: Evaluation, setting: Mapping[str, Any]) -> int | None:
    """Return the number of tasks if all of them were evaluated in several divisions, episode i being task i mod it."""
    tasks = setting.get("tasks")
    number = tasks.get(split) if isinstance(tasks, Mapping) else None
    episodes = len(evaluation.indices)
    if not isinstance(number, int) or episodes <= number or episodes % number:
        return None
    return number if torch.equal(evaluation.indices, torch.arange(episodes)) else None


def _episode_rows(evaluation: Evaluation) -> Iterable[list[Any]]:
    columns = {name: values[:, -1] for name, values in evaluation.values.items()}
    for name, values in evaluation.values.items():
        if values.shape[1] > 1:
            columns |= {f"{name}_step{step}": column for step, column in enumerate(values.unbind(dim=1))}
    yield ["episode", *columns]
    table = torch.stack(list(columns.values()), dim=1).tolist()
    for index, row in zip(evaluation.indices.tolist(), table, strict=True):
        yield [index, *("" if math.isnan(value) else value for value in row)]


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"there is no {name} in {folder}: give the folder of a run after its test")
    return path
