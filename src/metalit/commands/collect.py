"""``collect``: the results of a sweep's runs in one table, and over seeds in another."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metalit.cluster.base import exit_code, read_job
from metalit.commands.manage import folder_of, folder_parser
from metalit.evaluation import paired_difference, read_results
from metalit.evaluation.results import Results
from metalit.evaluation.table import mean_and_interval
from metalit.files import write_csv
from metalit.metrics import Summary, primary_metric, summarise_runs

RUNS_FILE = "sweep.csv"
SETTINGS_FILE = "sweep-over-seeds.csv"
SEEDS = ("seed_everything", "seed", "data.seed")  # all the names that sweeps.short_name may give them
NOTHING = Summary(math.nan, math.nan, math.nan)


class Run(NamedTuple):
    """One run of a sweep."""

    folder: Path  # the run folder
    overrides: Mapping[str, str]  # the options in which it differs from the other runs, read from the folder's name
    state: str  # finished, or how far the run has come
    results: Results  # content of results.json; empty if there is none

    @property
    def setting(self) -> dict[str, str]:
        """All overrides except the seeds."""
        return {key: value for key, value in self.overrides.items() if key not in SEEDS}

    @property
    def seeds(self) -> dict[str, str]:
        """The overrides that are seeds."""
        return {key: value for key, value in self.overrides.items() if key in SEEDS}


class OverSeeds(NamedTuple):
    """Summary of the finished runs of one setting."""

    setting: Mapping[str, str]  # the overrides without seeds
    runs: int  # number of runs
    finished: int  # number of runs with a result
    mean: Summary  # mean over runs of their means over episodes, with the interval over seeds
    difference: Summary  # to the first setting, paired by seed; nan for the first setting, or without pairs
    over: str  # what the difference's interval is over: n seeds, or n episodes of one pair; or why there is none


def collect_command(args: Sequence[str]) -> None:
    """Run the command ``collect``: print the tables, and write them into the sweep's folder."""
    parser = folder_parser("collect", "Put the results of a sweep's runs into one table, and into sweep.csv.")
    folder = folder_of(parser.parse_args(list(args)))
    runs = collect(folder)
    finished = [run for run in runs if run.results]
    metric = primary_metric(finished[0].results["metrics"]) if finished else ""
    tables = {RUNS_FILE: tabulate_runs(runs, metric)}
    if finished:
        tables[SETTINGS_FILE] = tabulate_settings(over_seeds(runs, metric), metric)
    console = Console()
    for name, (table, rows) in tables.items():
        if name == RUNS_FILE or len(runs) > 1:
            console.print(table)
        write_csv(folder / name, rows)
    others = "" if len(finished) == len(runs) else "; the others are in the table too"
    files = " and ".join(str(folder / name) for name in tables)
    counted = f"{len(finished)} of {len(runs)} runs have results{others}. In {files}"
    console.print(counted, soft_wrap=True, highlight=False, markup=False)


def collect(folder: Path) -> list[Run]:
    """Return all runs of a sweep: those submitted, in order, then others that have a config or results."""
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: there is no folder {folder}; name that of a sweep, which submit printed")
    folders: list[Path] = []
    with suppress(FileNotFoundError):  # runs may have been started by hand
        # by name: the record's paths are wrong if the sweep was moved
        folders = [folder / task.name for task in read_job(folder).tasks if task.name]
    there = [path.parent for name in ("config.yaml", "results.json") for path in folder.glob(f"*/{name}")]
    folders += sorted(there, key=natural_order)
    if not folders:
        raise FileNotFoundError(f"folder: {folder} has no runs; name the folder of a sweep, which submit printed")
    return [read_run(each) for each in dict.fromkeys(folders)]


def natural_order(path: Path) -> list[str | int]:
    """Return a sort key that orders names by the numbers in them: 2 before 10."""
    # Text and numbers alternate, so that only like is compared with like.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def read_run(folder: Path) -> Run:
    """Return a run as its folder shows it."""
    try:
        # sweeps.point_names has named the folder: option=value,option=value
        overrides = dict(part.split("=", 1) for part in folder.name.split(","))
    except ValueError:
        overrides = {"run": folder.name}
    try:
        return Run(folder, overrides, "finished", read_results(folder))
    except FileNotFoundError:
        return Run(folder, overrides, state(folder), {})
    except ValueError:
        return Run(folder, overrides, "results.json is damaged", {})


def state(folder: Path) -> str:
    """Return how far a run without results has come."""
    code = exit_code(folder)
    if code:
        return f"ended with exit code {code}"
    # Without job.exit the job's script has not ended, was killed, or was not used: which one does not show here.
    if (folder / "checkpoints" / "last.ckpt").exists():
        return "training or stopped" if code is None else "trained, not tested"
    return "no checkpoint yet" if folder.exists() else "not started"


def over_seeds(runs: Sequence[Run], metric: str) -> list[OverSeeds]:
    """Summarise a metric of the runs of each setting over seeds; one run at least must have results."""
    # Results of one split only, that of the first run: a validated run must not be averaged with tested ones.
    split = next(run.results["split"] for run in runs if run.results)
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.setting.items()), []).append(run)
    first, *_ = groups.values()
    rows = []
    for group in groups.values():
        metrics = [run.results["metrics"].get(metric, {}) for run in group if run.results.get("split") == split]
        means = [numbers["mean"] for numbers in metrics if numbers.get("mean") is not None]
        difference, over = (NOTHING, "") if group is first else compare(group, first, metric)
        rows.append(OverSeeds(group[0].setting, len(group), len(means), summarise_runs(means), difference, over))
    return rows


def compare(group: Sequence[Run], first: Sequence[Run], metric: str) -> tuple[Summary, str]:
    """Return the difference of a setting to the first, over pairs of equal seeds, and what its interval is over."""
    pairs = [(a, b) for a in group for b in first if a.seeds == b.seeds and a.results and b.results]
    if not pairs:
        return NOTHING, "no runs of the same seed"
    try:
        # Episode by episode: most of the spread between episodes is common to both runs and cancels.
        differences = [paired_difference(a.folder, b.folder, metric) for a, b in pairs]
    except (ValueError, FileNotFoundError):
        return NOTHING, "other episodes"
    # A single pair shows no spread over seeds, so its interval is over episodes.
    if len(pairs) == 1:
        return differences[0], f"{pairs[0][0].results['episodes']} episodes"
    means = [difference.mean for difference in differences if not math.isnan(difference.mean)]
    return summarise_runs(means), f"{len(means)} seeds"


def tabulate_runs(runs: Sequence[Run], metric: str) -> tuple[Table, list[list[Any]]]:
    """Return one row per run, as a table with one metric to print, and with all metrics for a file."""
    options = columns(run.overrides for run in runs)
    metrics = columns(run.results.get("metrics", {}) for run in runs)
    table = new_table("Runs: mean over episodes ± 95 % interval over episodes", options, "episodes", metric or "result")
    of_metrics = [f"{name}{ending}" for name in metrics for ending in ("", "_ci95")]
    rows: list[list[Any]] = [[*options, "state", "split", "episodes", *of_metrics]]
    for run in runs:
        cells = [run.overrides.get(name, "") for name in options]
        split, episodes = run.results.get("split"), run.results.get("episodes")
        measured = run.results.get("metrics", {})
        numbers = {name: [measured.get(name, {}).get(key) for key in ("mean", "ci95")] for name in metrics}
        rows.append([*cells, run.state, split, episodes, *chain(*numbers.values())])
        result = [f"{episodes} of {split}", mean_and_interval(*numbers[metric])] if run.results else ["", run.state]
        table.add_row(*map(Text, [*cells, *result]))
    return table, rows


def tabulate_settings(settings: Sequence[OverSeeds], metric: str) -> tuple[Table, list[list[Any]]]:
    """Return one row per setting, as a table to print and for a file."""
    options = columns(row.setting for row in settings)
    title = f"{metric}: mean over runs ± 95 % interval of that mean over seeds (Student's t)"
    table = new_table(title, options, "runs", metric, "minus the first", "± over")
    of_mean = [metric, f"{metric}_ci95_over_seeds", f"{metric}_std_over_seeds"]
    of_difference = ["difference_to_first", "difference_ci95", "difference_over"]
    rows: list[list[Any]] = [[*options, "runs", "finished", *of_mean, *of_difference]]
    for row in settings:
        cells = [row.setting.get(name, "") for name in options]
        # An empty cell for each number that is not finite.
        numbers = [number if math.isfinite(number) else None for number in (*row.mean, *row.difference[:2])]
        mean, ci95, _, difference, difference_ci95 = numbers
        rows.append([*cells, row.runs, row.finished, *numbers, row.over])
        shown = [mean_and_interval(mean, ci95), mean_and_interval(difference, difference_ci95, "+"), row.over]
        table.add_row(*map(Text, [*cells, f"{row.finished} of {row.runs}", *shown]))
    return table, rows


def new_table(title: str, options: Sequence[str], *results: str) -> Table:
    """Return a table without rows; the columns of options may be folded."""
    table = Table(title=title)
    for name in options:
        table.add_column(name, overflow="fold")
    for name in results:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return all keys of the rows, in order of appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))
