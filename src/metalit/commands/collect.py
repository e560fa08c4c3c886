"""``collect``: the results of a sweep's runs in one table, and over seeds in another."""

import csv
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metalit.cluster.base import EXIT_CODE, read_job
from metalit.commands.manage import folder_parser
from metalit.evaluation import paired_difference, read_results
from metalit.evaluation.results import Results
from metalit.metrics import Summary, primary_metric

RUNS_FILE = "sweep.csv"
SETTINGS_FILE = "sweep-over-seeds.csv"
SEEDS = ("seed_everything", "seed", "data.seed")  # all the names that sweeps.short_name may give them
NOTHING = Summary(math.nan, math.nan, math.nan)


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
        folder: the run folder.
        overrides: the options in which the run differs from the others, read from the folder's name.
        state: ``finished``, or how far the run has come.
        results: content of its ``results.json``, if there is one.
    """

    folder: Path
    overrides: Mapping[str, str]
    state: str
    results: Results | None

    @property
    def setting(self) -> dict[str, str]:
        """All overrides except the seeds."""
        return {key: value for key, value in self.overrides.items() if key not in SEEDS}

    @property
    def seeds(self) -> dict[str, str]:
        """The overrides that are seeds."""
        return {key: value for key, value in self.overrides.items() if key in SEEDS}


class OverSeeds(NamedTuple):
    """Summary of the finished runs of one setting.

    Attributes:
        setting: the overrides without seeds.
        runs: number of runs.
        finished: number of runs with a result.
        mean: mean over runs of their means over episodes, with the interval over seeds.
        difference: difference to the first setting, paired by seed; None for the first setting, or without pairs.
        over: what the difference's interval is over: ``n seeds``, or ``n episodes`` of a single pair; or why there is
            no difference.
    """

    setting: Mapping[str, str]
    runs: int
    finished: int
    mean: Summary
    difference: Summary | None
    over: str


def collect_command(args: Sequence[str]) -> None:
    """Run the command ``collect``: print the tables, and write them into the sweep's folder.

    Raises:
        FileNotFoundError: there is no such folder, or no run in it.
    """
    parser = folder_parser("collect", "Put the results of a sweep's runs into one table, and into sweep.csv.")
    folder = parser.parse_args(list(args)).folder
    if folder is None:
        raise FileNotFoundError("folder: not given; name that of a sweep, which submit printed")
    runs = collect(Path(folder))
    finished = [run.results for run in runs if run.results is not None]
    console = Console()
    metric = primary_metric(finished[0]["metrics"]) if finished else None
    console.print(runs_table(runs, metric))
    paths = [write_runs(Path(folder), runs)]
    if metric is not None:
        settings = over_seeds(runs, metric)
        if len(settings) > 1 or len(runs) > 1:
            console.print(settings_table(settings, metric))
        paths.append(write_settings(Path(folder), settings, metric))
    missing = len(runs) - len(finished)
    counted = f"{len(finished)} of {len(runs)} runs have results" + (
        "; the others are in the table too" if missing else ""
    )
    console.print(f"{counted}. In {' and '.join(map(str, paths))}", soft_wrap=True, highlight=False, markup=False)


def collect(folder: Path) -> list[Run]:
    """Return all runs of a sweep, including those without results.

    Args:
        folder: folder of the sweep, with the record of a job, or any folder with run folders in it.

    Raises:
        FileNotFoundError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: there is no folder {folder}; name that of a sweep, which submit printed")
    folders = run_folders(folder)
    if not folders:
        raise FileNotFoundError(f"folder: {folder} has no runs; name the folder of a sweep, which submit printed")
    return [read_run(each) for each in folders]


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders of a sweep: those submitted, in order, then others that have a config or results."""
    submitted: list[Path] = []
    with suppress(FileNotFoundError):  # runs may have been started by hand
        # by name: the record's paths are wrong if the sweep was moved
        submitted = [folder / task.name for task in read_job(folder).tasks if task.name]
    there = [path.parent for name in ("config.yaml", "results.json") for path in folder.glob(f"*/{name}")]
    return list(dict.fromkeys([*submitted, *sorted(there, key=natural_order)]))


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that orders names by the numbers in them: 2 before 10."""
    parts = re.findall(r"\d+|\D+", path.name)
    # Pairs of one shape, since numbers and text cannot be compared.
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def read_run(folder: Path) -> Run:
    """Return a run as its folder shows it.

    Args:
        folder: the run folder; a name of the form ``option=value,option=value`` gives the overrides.
    """
    # sweeps.point_names has named the folder; any other name stands in a column "run".
    pairs = [part.partition("=") for part in folder.name.split(",")]
    overrides = (
        {key: value for key, sign, value in pairs} if all(sign for _, sign, _ in pairs) else {"run": folder.name}
    )
    try:
        results = read_results(folder)
    except FileNotFoundError:
        return Run(folder, overrides, state(folder), None)
    except ValueError:
        return Run(folder, overrides, "results.json is damaged", None)
    return Run(folder, overrides, "finished", results)


def state(folder: Path) -> str:
    """Return how far a run without results has come."""
    exit_code = folder / EXIT_CODE
    code = exit_code.read_text(encoding="utf-8").strip() if exit_code.exists() else ""
    if code not in ("", "0"):
        return f"ended with exit code {code}"
    # Without job.exit the job's script has not ended, was killed, or was not used: which one does not show here.
    if (folder / "checkpoints" / "last.ckpt").exists():
        return "trained, not tested" if code else "training or stopped"
    return "no checkpoint yet" if folder.exists() else "not started"


def over_seeds(runs: Sequence[Run], metric: str) -> list[OverSeeds]:
    """Summarise the runs of each setting over seeds.

    Args:
        runs: runs of a sweep.
        metric: metric to summarise, such as ``accuracy``.
    """
    # Results of one split only, that of the first run: a validated run must not be averaged with tested ones.
    split = next((run.results["split"] for run in runs if run.results is not None), None)
    # In order of appearance: the others are compared with the first.
    settings = list({tuple(run.setting.items()): run.setting for run in runs}.values())
    groups = [[run for run in runs if run.setting == setting] for setting in settings]
    rows = []
    for setting, group in zip(settings, groups, strict=True):
        means = [mean for run in group if (mean := mean_of(run, metric, split)) is not None]
        difference, over = (None, "") if group is groups[0] else compare(group, groups[0], metric)
        rows.append(OverSeeds(setting, len(group), len(means), over_runs(means), difference, over))
    return rows


def mean_of(run: Run, metric: str, split: str | None) -> float | None:
    """Return a run's mean over the episodes of a split, or None if it has none."""
    if run.results is None or run.results["split"] != split:
        return None
    mean: float | None = run.results["metrics"].get(metric, {}).get("mean")
    return mean


def compare(group: Sequence[Run], first: Sequence[Run], metric: str) -> tuple[Summary | None, str]:
    """Return the difference of a setting to the first, over pairs of equal seeds, and what its interval is over.

    Args:
        group: runs of the setting.
        first: runs of the first setting.
        metric: metric to compare.
    """
    pairs = [(a, b) for a in group for b in first if a.seeds == b.seeds and a.results and b.results]
    if not pairs:
        return None, "no runs of the same seed"
    try:
        # Episode by episode: most of the spread between episodes is common to both runs and cancels.
        differences = [paired_difference(a.folder, b.folder, metric) for a, b in pairs]
    except (ValueError, FileNotFoundError):
        return None, "other episodes"
    # A single pair shows no spread over seeds, so its interval is over episodes.
    if len(pairs) > 1:
        return over_runs([difference.mean for difference in differences]), f"{len(pairs)} seeds"
    assert pairs[0][0].results is not None
    return differences[0], f"{pairs[0][0].results['episodes']} episodes"


def over_runs(values: Sequence[float]) -> Summary:
    """Summarise one value per run, with Student's interval.

    Returns:
        The mean, the half width t s/√n of the 95 % interval, with the quantile t of n-1 degrees of freedom, and s; nan
        where there are too few runs.
    """
    n = len(values)
    if n == 0:
        return NOTHING
    mean = statistics.fmean(values)
    if n == 1:
        return NOTHING._replace(mean=mean)
    from scipy.special import stdtrit  # not at the top: no other command needs it

    std = statistics.stdev(values)
    # The normal quantile 1.96 is too small for few runs: with 3 of them its interval would cover the mean in only 81 %
    # of all cases. Student's is 4.30 there.
    return Summary(mean, float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n), std)


def runs_table(runs: Sequence[Run], metric: str | None) -> Table:
    """Return a table with one row per run."""
    names = columns(run.overrides for run in runs)
    table = Table(title="Runs: mean over episodes ± 95 % interval over episodes")
    for name in names:
        table.add_column(name, overflow="fold")
    table.add_column("episodes", no_wrap=True)
    table.add_column(metric or "result", justify="right", no_wrap=True)
    for run in runs:
        cells = [run.overrides.get(name, "") for name in names]
        if run.results is None:
            cells += ["", run.state]
        else:
            numbers = run.results["metrics"].get(metric, {})
            cells.append(f"{run.results['episodes']} of {run.results['split']}")
            cells.append(with_interval(numbers.get("mean"), numbers.get("ci95")))
        table.add_row(*map(Text, cells))
    return table


def settings_table(settings: Sequence[OverSeeds], metric: str) -> Table:
    """Return a table with one row per setting."""
    names = columns(row.setting for row in settings)
    table = Table(title=f"{metric}: mean over runs ± 95 % interval of that mean over seeds (Student's t)")
    for name in names:
        table.add_column(name, overflow="fold")
    for name in ("runs", metric, "minus the first"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("± over", no_wrap=True)
    for row in settings:
        difference = "" if row.difference is None else with_interval(*row.difference[:2], sign="+")
        cells = [row.setting.get(name, "") for name in names]
        count = f"{row.finished} of {row.runs}"
        cells += [count, with_interval(*row.mean[:2]), difference, row.over]
        table.add_row(*map(Text, cells))
    return table


def columns(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return all keys of the rows, in order of appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def with_interval(mean: float | None, ci95: float | None, sign: str = "") -> str:
    """Return ``mean ± interval``, or a dash if there is no mean."""
    return "–" if mean is None or math.isnan(mean) else f"{number(mean, sign)} ± {number(ci95)}"


def number(value: float | None, sign: str = "") -> str:
    """Return a number with four decimals, or in scientific notation if those would be zeros; a dash for nan."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:{sign}.4f}" if value == 0 or abs(value) >= 0.0005 else f"{value:{sign}.1e}"


def write_runs(folder: Path, runs: Sequence[Run]) -> Path:
    """Write one line per run with all its metrics, and return the file."""
    names = columns(run.overrides for run in runs)
    metrics = columns(run.results["metrics"] for run in runs if run.results is not None)
    header = [*names, "state", "split", "episodes", *(n for name in metrics for n in (name, f"{name}_ci95"))]
    rows: list[list[Any]] = []
    for run in runs:
        results = run.results or {"metrics": {}}
        numbers = [results["metrics"].get(name, {}) for name in metrics]
        rows.append([run.overrides.get(name) for name in names])
        rows[-1] += [run.state, results.get("split"), results.get("episodes")]
        rows[-1] += [each.get(key) for each in numbers for key in ("mean", "ci95")]
    return write_csv(folder / RUNS_FILE, header, rows)


def write_settings(folder: Path, settings: Sequence[OverSeeds], metric: str) -> Path:
    """Write one line per setting, and return the file."""
    names = columns(row.setting for row in settings)
    of_means = [metric, f"{metric}_ci95_over_seeds", f"{metric}_std_over_seeds"]
    header = [
        *names,
        "runs",
        "finished",
        *of_means,
        "difference_to_first",
        "difference_ci95",
        "difference_over",
    ]
    rows: list[list[Any]] = []
    for row in settings:
        rows.append([row.setting.get(name) for name in names])
        rows[-1] += [row.runs, row.finished, *finite(row.mean)]
        rows[-1] += [*finite(row.difference or NOTHING)[:2], row.over]
    return write_csv(folder / SETTINGS_FILE, header, rows)


def finite(numbers: Iterable[float]) -> list[float | None]:
    """Return the numbers, with None, an empty cell, for each that is not finite."""
    return [number if math.isfinite(number) else None for number in numbers]


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Write a table as CSV, and return the file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path
