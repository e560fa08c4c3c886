"""The command line of the comparison."""

import argparse
import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from benchmarks.few_shot_text.__main__ import run
from benchmarks.methods import line_of, write_into

from metalit.data import FSMol
from metalit.evaluation.results import read_episodes, read_results
from metalit.metrics.draws import TaskSummary, summarise_tasks

from . import __doc__ as about

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SIZES = (16, 32, 64, 128)
METRIC = "delta_auprc"
Row = Mapping[str, Any]


def place(name: str, out: Path) -> Path:
    """Return the folder of a row's runs."""
    return out / re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def tested(name: str, shots: int, out: Path) -> Path:
    """Return the folder of a row's test at one support size."""
    return place(name, out).with_name(f"{place(name, out).name}-{shots}")


def measure(name: str, row: Row, options: argparse.Namespace) -> None:
    """Train, if the row has ``fit``, and test one row at each support size, as far as it has no results."""
    for shots in options.sizes:
        folder = tested(name, shots, options.out)
        if (folder / "results.json").exists():
            continue
        if "model" in row:
            from benchmarks.fs_mol.baselines import evaluate

            data = FSMol(str(options.root), task_list=options.task_list, shots=shots, test_draws=options.draws)
            evaluate(row["model"], data, folder)
            continue
        words = ["--config", f"configs/fs_mol/{row['config']}.yaml", "--data.root", str(options.root)]
        words += ["--data.task_list", options.task_list or "null", "--trainer.enable_progress_bar", "false"]
        trained = place(name, options.out)
        if row.get("fit") and not fitted(trained, [*words, *options.fit]):
            return
        words += ["--ckpt_path", str(trained / "checkpoints" / "best.ckpt")] if row.get("fit") else []
        words += ["--data.shots", str(shots), "--data.test_draws", str(options.draws)]
        if not run(["test", *words, "--run_dir", str(folder)], folder.with_suffix(".log")):
            return


def fitted(folder: Path, words: Sequence[str]) -> bool:
    """Train in a folder, or finish a training; return whether it is finished."""
    done = folder / "finished"
    if done.exists():
        return True
    more = ["--ckpt_path", "last"] if (folder / "checkpoints" / "last.ckpt").exists() else []
    if not run(["fit", *words, *more, "--run_dir", str(folder)], folder.with_suffix(".log")):
        return False
    done.touch()
    return True


def summary(folder: Path) -> TaskSummary:
    """Summarise a test: over tasks, each the mean of its divisions, and over divisions."""
    return summarise_tasks(read_episodes(folder)[METRIC], read_results(folder)["setting"]["tasks"]["test"])


def cell(name: str, shots: int, out: Path) -> str:
    """Return what a row has at one support size: mean, interval over tasks, and that over divisions in brackets."""
    if not (tested(name, shots, out) / "results.json").exists():
        return "–"
    found = summary(tested(name, shots, out))
    undefined = f", {found.undefined} undefined" if found.undefined else ""
    return f"{found.mean:.3f} ± {found.ci95:.3f} ({found.ci95_draws:.3f}){undefined}"


def table(rows: Mapping[str, Row], sizes: Sequence[int], out: Path) -> str:
    """Return a Markdown table: the published rows, then the rows that have results, each beside its target."""
    published: dict[str, list[tuple[float, float]]] = yaml.safe_load((HERE / "published.yaml").read_text())
    head = ["", "tasks × divisions", "target", *(f"support {shots}" for shots in sizes)]
    lines = [head, ["---"] * len(head)]
    for name, figures in published.items():
        known = dict(zip(SIZES, figures, strict=True))
        cells = (f"{known[shots][0]:.3f} ± {known[shots][1]:.3f}" if shots in known else "–" for shots in sizes)
        lines.append([f"*published:* {name}", "157 × 10", "", *cells])
    for name, row in rows.items():
        found = [summary(tested(name, n, out)) for n in sizes if (tested(name, n, out) / "results.json").exists()]
        if found:
            counts = " and ".join(sorted({f"{each.tasks} × {each.draws}" for each in found}))
            lines.append([name, counts, row["against"], *(cell(name, shots, out) for shots in sizes)])
    return "\n".join(line_of(each) for each in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser("fs_mol", description=(about or "").partition("\n")[0])
    parser.add_argument("--root", required=True, type=Path, help="the folder that holds FS-Mol")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "fs_mol", help="folder of the runs")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, help="support sizes")
    parser.add_argument("--only", nargs="*", default=[], help="rows, by name; all if not given")
    parser.add_argument("--draws", type=int, default=10, help="divisions of each test task")
    parser.add_argument("--task_list", default="fsmol-0.1.json", help="list of tasks; none for every file")
    parser.add_argument("--write", action="store_true", help="write the table into docs/guide/molecules.md")
    options, more = parser.parse_known_args(arguments)
    options.fit = more
    options.root, options.out = options.root.resolve(), options.out.resolve()
    options.task_list = None if options.task_list == "none" else options.task_list
    rows: dict[str, Row] = yaml.safe_load((HERE / "rows.yaml").read_text())
    rows = {name: rows[name] for name in options.only or rows}
    with contextlib.chdir(ROOT):
        for name, row in rows.items():
            measure(name, row, options)
    text = table(rows, options.sizes, options.out)
    print(text)
    if options.write:
        write_into(ROOT / "docs" / "guide" / "molecules.md", "fs_mol", text)


if __name__ == "__main__":
    main()
