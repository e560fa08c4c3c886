"""Meta-learners against pooled and per-task regressors on a table of 300 plants, the same test divisions for all.

    python -m benchmarks.tables                      # makes the table, trains, prints the table of docs/results.md
    python -m benchmarks.tables --make plants.csv    # makes the table only
    python -m benchmarks.tables --rows maml anil     # some of the configs in configs/tables
    python -m benchmarks.tables --steps 500          # a quick look

Each of the 60 test tasks is divided 10 times into 10 support rows and the rest. RMSE, in the table's units, and
Pearson's r of a task are means over its divisions; intervals are over tasks. Runs are kept in --runs and not trained
again.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from benchmarks.tables.baselines import Array, Task, baselines

import metalit
from metalit.data import TaskTable
from metalit.data.task_tables.plants import write_plants
from metalit.main import main as train

ROWS = ("maml", "anil", "conditional_neural_process", "attentive_neural_process")
PAIRED = ("ridge, pooled", "ridge, per task")
Values = npt.NDArray[np.float64]  # [tasks, 2]: RMSE and Pearson's r


def table(file: Path) -> TaskTable:
    """Return the data module that all configs use."""
    data = TaskTable(
        str(file), "plant", "yield", group_column="batch", shots=10, train_queries=15, val_draws=4, test_draws=10
    )
    for stage in ("fit", "test"):
        data.setup(stage)
    return data


def run(name: str, file: Path, folder: Path, steps: int | None) -> Path:
    """Train a config, unless that has been done, and return the run folder."""
    place = folder / name
    if not (place / "checkpoints" / "best.ckpt").is_file():
        options = ["--data.file", str(file), "--data.task_column", "plant", "--data.target", "yield"]
        options += ["--data.group_column", "batch", "--run_dir", str(place), "--trainer.enable_progress_bar", "false"]
        options += [] if steps is None else ["--trainer.max_steps", str(steps)]
        train(["fit", "--config", f"configs/tables/{name}.yaml", *options])
    return place


def divisions(data: TaskTable, split: str) -> list[Task]:
    """Return each episode of a split as arrays, without padding."""
    count = data.val_episodes if split == "val" else data.test_episodes
    found = []
    for first in range(0, count, 100):
        episode = data.episodes(split, first, min(100, count - first))  # type: ignore[arg-type]
        for number in range(len(episode.index)):
            parts: list[Array] = []
            for part in (episode.support, episode.query):
                keep = slice(None) if part.mask is None else part.mask[number]
                parts += [part.x[number][keep].double().numpy(), part.y[number][keep][:, 0].double().numpy()]
            found.append((parts[0], parts[1], parts[2], parts[3]))
    return found


def judged(predictions: list[Array], tasks: list[Task], data: TaskTable) -> Values:
    """Return RMSE in the table's units and Pearson's r of each task, means over its divisions; nan if undefined."""
    scale = data.found_coding().targets.scales[0]
    values = []
    for predicted, (_, _, _, truth) in zip(predictions, tasks, strict=True):
        flat = predicted.std() < 1e-12 or truth.std() < 1e-12
        r = np.nan if flat else float(np.corrcoef(predicted, truth)[0, 1])
        values.append([scale * float(np.sqrt(np.mean((predicted - truth) ** 2))), r])
    count = len(data.streams["test"])  # type: ignore[arg-type]
    by_task: Values = np.array(values).reshape(-1, count, 2)
    undefined = np.isnan(by_task).all(axis=0)
    return np.where(undefined, np.nan, np.nanmean(np.where(undefined, 0.0, by_task), axis=0))


def of_run(place: Path, data: TaskTable, tasks: list[Task]) -> dict[str, Values]:
    """Return the values of a trained learner before and after adaptation, on the episodes of ``data``."""
    learner = metalit.load(place).learner
    stages: dict[str, list[Array]] = {}
    count = data.test_episodes
    for first in range(0, count, 100):
        episode = data.episodes("test", first, min(100, count - first))
        predictions = learner.evaluate(episode).predictions.double()  # [B, T, Q, 1]
        shown = {"after": -1} if predictions.shape[1] == 1 else {"before": 0, "after": -1}
        for number in range(len(episode.index)):
            queries = len(tasks[first + number][3])
            for name, stage in shown.items():
                stages.setdefault(name, []).append(predictions[number, stage, :queries, 0].numpy())
    return {name: judged(found, tasks, data) for name, found in stages.items()}


def interval(values: Array) -> str:
    """Return mean and 95 % interval over tasks, those left out that are undefined."""
    known = values[~np.isnan(values)]
    if not len(known):
        return "undefined"
    return f"{known.mean():.3f} ± {1.96 * known.std(ddof=1) / np.sqrt(len(known)):.3f}"


def line(name: str, after: Values, before: Values | None, reference: dict[str, Values]) -> str:
    """Return a line of the table."""
    cells = [name, "" if before is None else interval(before[:, 0]), interval(after[:, 0])]
    cells += ["" if before is None else interval(before[:, 1]), interval(after[:, 1])]
    for other in PAIRED:
        cells += ["" if other == name else interval(after[:, 0] - reference[other][:, 0])]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Make the table, train, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", type=Path, help="write the table of plants and stop")
    parser.add_argument("--tasks", type=int, default=300, help="plants in it")
    parser.add_argument("--runs", type=Path, default=Path("runs/tables"), help="folder of the table and the runs")
    parser.add_argument("--rows", nargs="+", default=ROWS, help="configs in configs/tables")
    parser.add_argument("--steps", type=int, help="meta-steps, instead of the configs'")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.make is not None:
        print(write_plants(options.make, options.tasks))
        return
    file = options.runs / "plants.csv"
    options.runs.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        write_plants(file, options.tasks)
    data = table(file)
    tasks = divisions(data, "test")
    training = data.stores["train"]
    x, y = data.expanded(training.items).double().numpy(), training.targets[:, 0].numpy()
    found = {
        name: judged([method(x, y, at) for x, y, at, _ in tasks], tasks, data)
        for name, method in baselines(x, y, divisions(data, "val")).items()
    }
    print("| method | RMSE before | RMSE | r before | r | RMSE less pooled ridge's | RMSE less per-task ridge's |")
    print("|---|---|---|---|---|---|---|")
    for name, values in found.items():
        print(line(name, values, None, found), flush=True)
    for name in options.rows:
        stages = of_run(run(name, file, options.runs, options.steps), data, tasks)
        print(line(name, stages["after"], stages.get("before"), found), flush=True)


if __name__ == "__main__":
    main()
