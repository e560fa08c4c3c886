"""The command line of the comparison."""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from benchmarks.methods import line_of, signed, write_into, written

from metalit.evaluation import read_results
from metalit.evaluation.results import read_episodes
from metalit.metrics import Summary
from metalit.metrics.intervals import summarise

from . import __doc__ as about

ROOT = Path(__file__).parents[2]
ROWS = Path(__file__).with_name("rows.yaml")
SHOTS = (1, 5)
HEAD = ("method", "transductive", "episodes", "1-shot", "5-shot", "against the first row, episode by episode")


def folder_of(name: str, shots: int, out: Path) -> Path:
    """Return the folder of one test."""
    return out / f"{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')}-{shots}shot"


def test(name: str, row: Mapping[str, Any], shots: int, options: argparse.Namespace) -> None:
    """Test one row, unless its folder has results; what it prints goes to a file beside the folder."""
    folder = folder_of(name, shots, options.out)
    if (folder / "results.json").exists():
        return
    command = ["train.py", "test", "--config", f"configs/cifar_fs/{row['config']}.yaml", "--run_dir", str(folder)]
    command += ["--data.root", options.root, "--data.shots", str(shots), "--trainer.enable_progress_bar", "false"]
    command += [word for key, value in row.items() if key != "config" for word in (f"--{key}", str(value))]
    with folder.with_suffix(".log").open("w") as log:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(f"{name}: failed, see {log.name}", file=sys.stderr)


def difference(folder: Path, other: Path) -> Summary:
    """Summarise the differences in accuracy on the episodes that two tests share, the first ones of both."""
    ours, theirs = (read_episodes(each)["accuracy"] for each in (folder, other))
    both = min(len(ours), len(theirs))
    return summarise(ours[:both] - theirs[:both])


def line(name: str, row: Mapping[str, Any], first: str, out: Path) -> list[str]:
    """Return the cells of one row."""
    folders = [folder_of(name, shots, out) for shots in SHOTS]
    results = [read_results(folder) for folder in folders]
    config = f"[{name}](../configs/cifar_fs/{row['config']}.yaml)"
    options = ", ".join(f"`{key}: {value}`" for key, value in row.items() if key != "config")
    accuracies = [written(each["metrics"]["accuracy"]) for each in results]
    differences = [
        signed(difference(folder, folder_of(first, shots, out)))
        for folder, shots in zip(folders, SHOTS, strict=True)
        if name != first
    ]
    episodes = sorted({str(each["episodes"]) for each in results})
    return [
        f"{config} ({options})" if options else config,
        "yes" if results[0]["setting"]["transductive"] else "no",
        " and ".join(episodes),
        *accuracies,
        "; ".join(differences) or "–",
    ]


def table(rows: Mapping[str, Mapping[str, Any]], out: Path) -> str:
    """Return a Markdown table of the rows that have results."""
    first = next(iter(rows))
    tested = [name for name in rows if all((folder_of(name, s, out) / "results.json").exists() for s in SHOTS)]
    lines = [HEAD, ["---"] * len(HEAD), *(line(name, rows[name], first, out) for name in tested)]
    return "\n".join(line_of(each) for each in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser("frozen_backbone", description=(about or "").partition("\n")[0])
    parser.add_argument("--root", required=True, help="where CIFAR-100 is (data.root)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "frozen_backbone", help="folder of the tests")
    parser.add_argument("--only", nargs="*", default=[], help="rows, by name; all if not given")
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    rows = yaml.safe_load(ROWS.read_text())
    for name in options.only or rows:
        for shots in SHOTS:
            test(name, rows[name], shots, options)
    text = table(rows, options.out)
    print(text)
    write_into(ROOT / "docs" / "results.md", "frozen_backbone", text)


if __name__ == "__main__":
    main()
