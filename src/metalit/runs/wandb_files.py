"""What Weights & Biases shows of the files in a run folder."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CONFUSION_FILE = "confusion.csv"
RESULTS_FILE = "results.json"
MOST_ROWS = 10_000  # that W&B takes in a table


def files_of(folder: Path) -> list[Path]:
    """Return the files of a run folder that W&B is to have: figures, results and the confusion of classes."""
    named = (folder / RESULTS_FILE, folder / CONFUSION_FILE)
    return [*sorted(folder.glob("*.png")), *(path for path in named if path.is_file())]


def media_of(path: Path) -> dict[str, Any]:
    """Return the pictures and tables, by name, that W&B shows of one of these files."""
    import wandb

    if path.suffix == ".png":
        return {f"figures/{path.stem}": wandb.Image(str(path))}
    if path.name == CONFUSION_FILE:
        header, taken = read_confusion(path)
        return {"test/confusion": wandb.Table(columns=[*header], data=taken)}
    results = read_json(path)
    steps = results.get("by_step", {})
    rows = [[metric, *numbers.values()] for metric, stages in steps.items() for numbers in stages]
    columns = ["metric", "step", "mean", "ci95", "std"]
    return {f"{stage_of(results)}/adaptation": wandb.Table(columns=[*columns], data=rows)} if rows else {}


def summary_of(path: Path) -> dict[str, Any]:
    """Return the final results, by name, that ``results.json`` holds: means, intervals, and what they rest on."""
    results = read_json(path)
    numbers: dict[str, Any] = {}
    for name, summary in results["metrics"].items():
        numbers |= {name: summary["mean"], f"{name}_ci95": summary["ci95"]}
    numbers |= {name: results[name] for name in ("episodes", "checkpoint", "setting")}
    return {f"{stage_of(results)}/{name}": value for name, value in numbers.items() if value is not None}


def parts_of(folder: Path, run_id: str) -> list[Path]:
    """Return the files of the parts of a run that were logged offline, in a run folder."""
    return sorted(folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))


def is_synced(part: Path) -> bool:
    """Whether a part has been sent to the server."""
    return part.with_suffix(".wandb.synced").exists()


def set_aside(parts: Iterable[Path]) -> bool:
    """Take parts that a kill cut short out of what ``wandb sync`` sends; their logs stay.

    Returns:
        Whether they are out. They are not if one was sent as it was.
    """
    parts = list(parts)
    if any(map(is_synced, parts)):
        return False
    for part in parts:
        part.replace(part.with_suffix(".wandb.incomplete"))
    return True


def stage_of(results: dict[str, Any]) -> str:
    """Return the prefix of a file's results: ``val/`` is for the curves of validation during training."""
    return "test" if results["split"] == "test" else "validate"


def read_confusion(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and the rows of ``confusion.csv``, the most frequent where W&B cannot take all."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    rows: list[list[Any]] = [
        [true, predicted, int(queries), int(taken), float(rate)]
        for true, predicted, queries, taken, rate in lines
    ]
    return header, sorted(rows, key=lambda row: row[3], reverse=True)[:MOST_ROWS]


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
