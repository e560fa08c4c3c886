"""The files of a run folder as Weights & Biases media, tables and summaries."""

import csv
import json
from pathlib import Path
from typing import Any

CONFUSION_FILE = "confusion.csv"
RESULTS_FILE = "results.json"
MOST_ROWS = 10_000  # the limit of a W&B table


def times_of(folder: Path) -> dict[Path, int]:
    """Return the modification time (ns) of each file for W&B: figures, results and the confusion table."""
    paths = [*sorted(folder.glob("*.png")), folder / RESULTS_FILE, folder / CONFUSION_FILE]
    return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}


def media_of(path: Path) -> dict[str, Any]:
    """Return the images and tables, by name, that W&B shows for one of these files."""
    import wandb  # an optional logger, and slow to import

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
    """Return the final results in ``results.json`` by name: means, intervals, episodes, checkpoint and setting."""
    results = json.loads(path.read_text(encoding="utf-8"))
    numbers: dict[str, Any] = {}
    for name, summary in results["metrics"].items():
        numbers |= {name: summary["mean"], f"{name}_ci95": summary["ci95"]}
    numbers |= {name: results[name] for name in ("episodes", "checkpoint", "setting")}
    return {f"{stage_of(results)}/{name}": value for name, value in numbers.items() if value is not None}


def unsent_parts(folder: Path, run_id: str) -> list[Path]:
    """Return the offline files of a run that are not sent yet, oldest first: one per time that the run was opened."""
    parts = sorted(folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))
    return [part for part in parts if not part.with_suffix(".wandb.synced").exists()]


def stage_of(results: dict[str, Any]) -> str:
    """Return the prefix for the metrics of a result file: ``test`` or ``validate``."""
    # not "val", which is the prefix of the validation curves during training
    return "test" if results["split"] == "test" else "validate"


def read_confusion(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Return the header and the rows of ``confusion.csv``, limited to the most frequent pairs that W&B can take."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    rows: list[list[Any]] = [
        [true, predicted, int(queries), int(taken), float(rate)] for true, predicted, queries, taken, rate in lines
    ]
    return header, sorted(rows, key=lambda row: row[3], reverse=True)[:MOST_ROWS]
