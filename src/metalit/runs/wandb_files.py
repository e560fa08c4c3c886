"""What Weights & Biases shows of the files in a run folder."""

import csv
import json
from pathlib import Path
from typing import Any

CONFUSION_FILE = "confusion.csv"
RESULTS_FILE = "results.json"
MOST_ROWS = 10_000  # that W&B takes in a table


def times_of(folder: Path) -> dict[Path, int]:
    """Return when (ns) each file for W&B was changed: figures, results and the confusion of classes."""
    paths = [*sorted(folder.glob("*.png")), folder / RESULTS_FILE, folder / CONFUSION_FILE]
    return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}


def media_of(path: Path) -> dict[str, Any]:
    """Return the pictures and tables, by name, that W&B shows of one of these files."""
    import wandb

    if path.suffix == ".png":
        return {f"figures/{path.stem}": wandb.Image(str(path))}
    if path.name == CONFUSION_FILE:
        header, taken = read_confusion(path)
        return {"test/confusion": wandb.Table(columns=[*header], data=taken)}
    results = json.loads(path.read_text(encoding="utf-8"))
    steps = results.get("by_step", {})
    rows = [[metric, *numbers.values()] for metric, stages in steps.items() for numbers in stages]
    columns = ["metric", "step", "mean", "ci95", "std"]
    return {f"{stage_of(results)}/adaptation": wandb.Table(columns=[*columns], data=rows)} if rows else {}


def summary_of(path: Path) -> dict[str, Any]:
    """Return the final results, by name, that ``results.json`` holds: means, intervals, and what they rest on."""
    results = json.loads(path.read_text(encoding="utf-8"))
    numbers: dict[str, Any] = {}
    for name, summary in results["metrics"].items():
        numbers |= {name: summary["mean"], f"{name}_ci95": summary["ci95"]}
    numbers |= {name: results[name] for name in ("episodes", "checkpoint", "setting")}
    return {f"{stage_of(results)}/{name}": value for name, value in numbers.items() if value is not None}


def unsent_parts(folder: Path, run_id: str) -> list[Path]:
    """Return what W&B has written of a run offline and not sent yet: one file for each time that it was opened."""
    parts = sorted(folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))
    return [part for part in parts if not part.with_suffix(".wandb.synced").exists()]


def stage_of(results: dict[str, Any]) -> str:
    """Return the prefix of a file's results: ``val/`` is for the curves of validation during training."""
    return "test" if results["split"] == "test" else "validate"


def read_confusion(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and the rows of ``confusion.csv``, the most frequent where W&B cannot take all."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    rows: list[list[Any]] = [
        [true, predicted, int(queries), int(taken), float(rate)] for true, predicted, queries, taken, rate in lines
    ]
    return header, sorted(rows, key=lambda row: row[3], reverse=True)[:MOST_ROWS]
