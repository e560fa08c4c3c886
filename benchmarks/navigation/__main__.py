"""The command line of the comparison."""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from benchmarks.methods import line_of, write_into

from metalit.evaluation import read_results
from metalit.metrics import Summary
from metalit.metrics.intervals import summarise_runs

from . import __doc__ as about

ROOT = Path(__file__).parents[2]
ROWS = Path(__file__).with_name("rows.yaml")
STEPS = 3  # inner steps in the test, as the configs have
QUICK = {"data.train_shots": 10, "data.train_queries": 10, "data.tasks_per_batch": 10, "data.episodes_per_epoch": 50}
QUICK |= {"trainer.max_steps": 30}
Row = Mapping[str, Any]


def words(options: Mapping[str, Any]) -> list[str]:
    """Return options as a command line has them."""
    return [word for key, value in options.items() for word in (f"--{key}", yaml.safe_dump(value).split("\n")[0])]


def folder_of(name: str, seed: int, out: Path) -> Path:
    """Return the run folder of a row and a seed."""
    return out / f"{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')}-{seed}"


def metalit(command: str, row: Row, folder: Path, seed: int, more: Sequence[str]) -> bool:
    """Run a command of metalit on a row, and return whether it succeeded; what it prints goes beside the folder."""
    own = {key: value for key, value in row.items() if "." in key}
    given = ["--config", f"configs/navigation/{row['config']}.yaml", "--run_dir", str(folder), *words(own), *more]
    given += ["--seed_everything", str(seed), "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    with folder.with_name(f"{folder.name}.log").open("a") as log:
        print("$ python train.py", command, *given, file=log, flush=True)
        program = [sys.executable, "train.py", command, *given]
        done = subprocess.run(program, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(f"{folder.name}: failed, see {log.name}", file=sys.stderr)
    return done.returncode == 0


def train_and_test(name: str, row: Row, seed: int, options: argparse.Namespace) -> None:
    """Fit and test one row with one seed, as far as it has no results."""
    folder = folder_of(name, seed, options.out)
    if (folder / "results.json").exists():
        return
    common = words(QUICK) if options.quick else []
    tested = [*common, *words(row.get("test", {}))]
    if "fit" in row:
        done = folder / "finished"
        resumed = ["--ckpt_path", "last"] if (folder / "checkpoints" / "last.ckpt").exists() else []
        if not done.exists():
            if not metalit("fit", row, folder, seed, [*common, *words(row["fit"]), *resumed]):
                return
            done.touch()
        tested += ["--ckpt_path", str(folder / "checkpoints" / "best.ckpt")]
    elif (chosen := best_options(row, folder, seed, tested)) is None:
        return
    else:
        tested += chosen
    metalit("test", row, folder, seed, tested)


def best_options(row: Row, folder: Path, seed: int, tested: Sequence[str]) -> list[str] | None:
    """Return the option of ``best_of`` with the highest return on the validation tasks; None if a run failed."""
    ((option, values),) = row["best_of"].items()
    returns: dict[Any, float] = {}
    for value in values:
        tried = folder.with_name(f"{folder.name}-{value}")
        have = (tried / "results.json").exists()
        if not have and not metalit("validate", row, tried, seed, [*tested, *words({option: value})]):
            return None
        returns[value] = read_results(tried)["metrics"]["return"]["mean"]
    return words({option: max(returns, key=lambda value: returns[value])})


def returns_by_step(folder: Path) -> list[dict[str, float]]:
    """Return mean and interval over the goals, before and after each inner step."""
    results = read_results(folder)
    found: list[dict[str, float]] = results.get("by_step", {}).get("return") or [results["metrics"]["return"]]
    return found


def cell(by_step: Sequence[Sequence[dict[str, float]]], step: int) -> str:
    """Return the mean over seeds of the return after a step, with the interval over seeds, or over goals if one."""
    if any(step >= len(stages) for stages in by_step):
        return "–"
    if len(by_step) == 1:
        return f"{by_step[0][step]['mean']:.1f} ± {by_step[0][step]['ci95']:.1f}"
    summary: Summary = summarise_runs([stages[step]["mean"] for stages in by_step])
    return f"{summary.mean:.1f} ± {summary.ci95:.1f}"


def table(rows: Mapping[str, Row], seeds: int, out: Path) -> str:
    """Return a Markdown table of the rows that have results."""
    after = [f"after {step} step{'s' * (step > 1)}" for step in range(1, STEPS + 1)]
    lines = [["method", "seeds", "before adaptation", *after]]
    lines += [["---"] * len(lines[0])]
    for name, row in rows.items():
        folders = [folder_of(name, seed, out) for seed in range(seeds)]
        tested = [returns_by_step(folder) for folder in folders if (folder / "results.json").exists()]
        if tested:
            linked = f"[{name}](../configs/navigation/{row['config']}.yaml)"
            lines.append([linked, str(len(tested)), *(cell(tested, step) for step in range(STEPS + 1))])
    return "\n".join(line_of(each) for each in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser("navigation", description=(about or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each row")
    parser.add_argument("--only", nargs="*", default=[], help="rows, by name; all if not given")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "navigation", help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each on one thread")
    parser.add_argument("--quick", action="store_true", help="batches and meta-steps of maml_quick.yaml")
    parser.add_argument("--no-page", action="store_true", help="print the table only")
    options = parser.parse_args(arguments)
    rows: dict[str, Row] = yaml.safe_load(ROWS.read_text())
    if unknown := set(options.only) - rows.keys():
        parser.error(f"--only has {', '.join(sorted(unknown))}, but the rows are {', '.join(rows)}")
    options.out = options.out.resolve() / ("quick" if options.quick else "full")
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = {name: rows[name] for name in options.only or rows}
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = [
            pool.submit(train_and_test, name, row, seed, options)
            for seed, (name, row) in product(range(options.seeds), chosen.items())
        ]
        for job in jobs:
            job.result()
    text = table(rows, options.seeds, options.out)
    print(text)
    if not options.no_page:
        write_into(ROOT / "docs" / "results.md", "navigation_quick" if options.quick else "navigation", text)


if __name__ == "__main__":
    main()
