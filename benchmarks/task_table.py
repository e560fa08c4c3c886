"""The cost of a large table: start, memory and episodes, against pyarrow and a loop over pandas.

    python benchmarks/task_table.py            # 1e6 rows, 50 features, 10,000 tasks: about 3 minutes, 1 GB on disk
    python benchmarks/task_table.py --rows 100000

Start: from the file to the end of the first training step (MAML, 16 tasks), as a multiple of the time in which pyarrow
alone reads the file; the median of rounds that alternate in one process. Memory: the peak of another process beyond
that of its imports, as a multiple of the table in float32. Episodes: with 10 support and 15 query rows, gathered and
coded, against one pandas ``sample`` per episode of a group looked up in a ``groupby``.

All times are CPU time: other work on the machine stretches a wall clock. Set OMP_NUM_THREADS=1, which pyarrow follows.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from metalit.algorithms import MAML
from metalit.data import TaskTable
from metalit.networks import MLP

TASKS_PER_BATCH = 16


def write_table(path: Path, rows: int, features: int, tasks: int) -> None:
    """Write a table of normal numbers with tasks of unequal size, as CSV or parquet."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.full(tasks, 5.0))
    names = np.array([f"task{number:06}" for number in range(tasks)])
    columns: dict[str, object] = {"task": names[rng.choice(tasks, rows, p=share)]}
    columns |= {f"x{number}": np.round(rng.normal(size=rows), 5) for number in range(features)}
    columns["y"] = np.round(rng.normal(size=rows), 5)
    table = pa.table(columns)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)


def data_of(path: Path) -> TaskTable:
    """Return the data module, which has read nothing yet."""
    return TaskTable(str(path), "task", "y", shots=10, train_queries=15, tasks_per_batch=TASKS_PER_BATCH)


def first_step(path: Path) -> TaskTable:
    """Go from the file to the gradient of the first meta-batch."""
    data = data_of(path)
    data.setup("fit")
    learner = MAML(MLP(data.sizes()["inputs"], [64, 64], 1), inner_lr=0.05)
    learner.meta_loss(data.episodes("train", 0, TASKS_PER_BATCH)).backward()
    return data


def read(path: Path) -> object:
    """Read the file with pyarrow alone."""
    import pyarrow.csv
    import pyarrow.parquet

    return pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)


def seconds(function: Callable[[Path], object], path: Path) -> float:
    """Return the CPU time of one call."""
    start = time.process_time()
    function(path)
    return time.process_time() - start


def peak_memory(path: Path) -> float:
    """Return the peak of another process beyond its imports, in MiB."""
    code = (
        "import re, sys, pyarrow.csv, pyarrow.parquet; from pathlib import Path;"
        "from benchmarks.task_table import first_step; "
        # and not getrusage, whose peak a process takes over from the one that started it
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1]); "
        "start = peak(); first_step(Path(sys.argv[1])); print(peak() - start)"
    )
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])}
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout.split()[-1]) / 1024


def episodes_per_second(data: TaskTable, count: int = 2000) -> float:
    """Return the rate of finished training episodes, in meta-batches."""
    start = time.process_time()
    for first in range(0, count, TASKS_PER_BATCH):
        data.episodes("train", first, TASKS_PER_BATCH)
    return count / (time.process_time() - start)


def pandas_per_second(path: Path, count: int = 200) -> float:
    """Return the rate of a loop over pandas, which makes the same tensors without any coding."""
    import pandas as pd

    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    groups = table.groupby("task")
    names = [name for name, size in groups.size().items() if size >= 2]
    features = [name for name in table.columns if name not in ("task", "y")]
    rng = np.random.default_rng(0)
    start = time.process_time()
    for _ in range(count):
        rows = groups.get_group(names[rng.integers(len(names))]).sample(frac=1.0, random_state=rng)
        x, y = (torch.from_numpy(rows[part].to_numpy(np.float32)) for part in (features, ["y"]))
        x[:10], y[:10], x[10:25], y[10:25]
    return count / (time.process_time() - start)


def main() -> None:
    """Measure, and print what each form of the file costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", default=["csv", "parquet"])
    parser.add_argument("--folder", type=Path, help="keep the files here")
    parser.add_argument("--quick", action="store_true", help="a small table, only to see that this runs")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.tasks, options.rounds = 20_000, 500, 2
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for form in options.forms:
            path = folder / f"table.{form}"
            if not path.is_file():
                write_table(path, options.rows, options.features, options.tasks)
            report(path, options.rows * (options.features + 1) * 4 / 2**20, options.rounds)


def report(path: Path, table: float, rounds: int) -> None:
    """Print what one file costs, the time to the first step last."""
    memory = peak_memory(path)
    print(f"{path.name}: peak {memory:.0f} MiB, {memory / table:.2f} times the table's {table:.0f} MiB", flush=True)
    ours = episodes_per_second(first_step(path))
    try:
        theirs = pandas_per_second(path)
        print(f"{path.name}: {ours:.0f} episodes/s, pandas {theirs:.0f} ({ours / theirs:.0f} times)", flush=True)
    except ModuleNotFoundError:
        print(f"{path.name}: {ours:.0f} episodes/s; pandas is not installed", flush=True)
    times = [(seconds(read, path), seconds(first_step, path)) for _ in range(rounds)]
    alone, start = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = [ours / alone for alone, ours in times]
    print(
        f"{path.name}: pyarrow alone {alone:.2f} CPU-s, to the first step {start:.2f} CPU-s; "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times",
        flush=True,
    )


if __name__ == "__main__":
    main()
