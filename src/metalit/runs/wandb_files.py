"""The files of a run folder as Weights & Biases media, tables and summaries."""

import csv
import json
from pathlib import Path
from typing import Any

CONFUSION_FILE = "confusion.csv"
RESULTS_FILE = "results.json"
MOST_ROWS = 10_000  # the limit of a W&B table


def files_to_send(folder: Path) -> list[Path]:
    """Return the files of a run folder that W&B gets: figures, films, results and the confusion table."""
    pictures = sorted([*folder.glob("*.png"), *folder.glob("*.gif")])
    return [path for path in (*pictures, folder / RESULTS_FILE, folder / CONFUSION_FILE) if path.is_file()]


def media_and_summary(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what W&B shows for one of these files, by name: pictures and tables, and entries of its summary."""
    import wandb  # an optional logger, and slow to import

    if path.suffix == ".png":
        return {f"figures/{path.stem}": wandb.Image(str(path))}, {}
    if path.suffix == ".gif":
        return {f"figures/{path.stem}": wandb.Video(str(path))}, {}
    if path.name == CONFUSION_FILE:
        with path.open(newline="", encoding="utf-8") as file:
            header, *pairs = csv.reader(file)
        pairs.sort(key=lambda pair: int(pair[3]), reverse=True)
        rows = [[true, taken_for, *map(int, counts), float(rate)] for true, taken_for, *counts, rate in pairs]
        return {"test/confusion": wandb.Table(columns=[*header], data=rows[:MOST_ROWS])}, {}
    results = json.loads(path.read_text(encoding="utf-8"))
    # not "val", which is the prefix of the validation curves during training
    stage = "test" if results["split"] == "test" else "validate"
    summary = {name: results[name] for name in ("episodes", "checkpoint", "setting")}
    for name, numbers in results["metrics"].items():
        summary |= {name: numbers["mean"], f"{name}_ci95": numbers["ci95"]}
    steps = [[metric, *numbers.values()] for metric, stages in results.get("by_step", {}).items() for numbers in stages]
    table = wandb.Table(columns=["metric", "step", "mean", "ci95", "std"], data=steps)
    return (
        {f"{stage}/adaptation": table} if steps else {},
        {f"{stage}/{name}": value for name, value in summary.items() if value is not None},
    )
