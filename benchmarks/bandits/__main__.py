"""The command line of the comparison."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import torch
from benchmarks.methods import line_of, write_into
from torch import Tensor

from metalit import load
from metalit.algorithms import RL2
from metalit.algorithms.reinforcement.base import steps_of
from metalit.data import EnvironmentTasks, EpisodicDataModule
from metalit.environments import Bandit
from metalit.episode import TaskBatch
from metalit.metrics.intervals import summarise

from . import __doc__ as about
from .strategies import at_random, regret, regret_of, thompson_sampling, ucb1

ROOT = Path(__file__).parents[2]
PULLS = (10, 100)
ARMS, TASKS, TRIALS = 5, 1000, 10
STRATEGIES = {"at random": at_random, "UCB1": ucb1, "Thompson sampling": thompson_sampling}


def test_arms() -> Tensor:
    """Return the probabilities of the test tasks, ``[TASKS, ARMS]``; those of the configs, whose seed is 0."""
    bandit = Bandit(ARMS)
    return tasks_of(EnvironmentTasks(bandit), 0, TASKS).parameters  # type: ignore[no-any-return]


def tasks_of(data: EpisodicDataModule, first: int, count: int) -> TaskBatch:
    """Return test tasks."""
    assert isinstance(data, EnvironmentTasks)
    return data.make_stream("test")(first, count)


def trained(pulls: int, seed: int, options: argparse.Namespace) -> None:
    """Train RL^2, unless it is finished."""
    folder = options.out / f"rl2_{pulls}-{seed}"
    if (folder / "finished").exists():
        return
    given = ["--config", f"configs/bandit/rl2_{pulls}.yaml", "--run_dir", str(folder), "--seed_everything", str(seed)]
    given += ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", *options.more]
    given += ["--ckpt_path", "last"] if (folder / "checkpoints" / "last.ckpt").exists() else []
    with folder.with_suffix(".log").open("a") as log:
        print("$ python train.py fit", *given, file=log, flush=True)
        program = [sys.executable, "train.py", "fit", *given]
        done = subprocess.run(program, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(f"{folder.name}: failed, see {log.name}", file=sys.stderr)
    else:
        (folder / "finished").touch()


def regret_of_run(folder: Path, arms: Tensor) -> Tensor:
    """Return the regret of a trained RL^2 in each test task, ``[TASKS]``; computed once."""
    stored = folder / "regret.pt"
    if not stored.exists():
        learner, data = load(folder)
        assert isinstance(learner, RL2)
        learner.prepare(data)
        parts = []
        for first in range(0, TASKS, 100):  # the memory of a thousand tasks is large
            tasks = tasks_of(data, first, 100)
            assert torch.equal(tasks.parameters, arms[first : first + 100])
            chosen = steps_of(learner.experience(tasks, training=False).episode.query).actions
            lost = regret_of(tasks.parameters, chosen.flatten(1)).reshape(chosen.shape)
            parts.append(lost.sum(dim=-1).mean(dim=-1))
        torch.save(torch.cat(parts), stored)
    found: Tensor = torch.load(stored, weights_only=True)
    return found


def written(values: Sequence[Tensor]) -> str:
    """Return mean and interval over tasks of the regret, of seeds the mean; the range of seeds if there are several."""
    summary = summarise(torch.stack(list(values)).mean(dim=0))
    means = [float(each.mean()) for each in values]
    between = f" (seeds: {min(means):.2f} to {max(means):.2f})" if len(means) > 1 else ""
    return f"{summary.mean:.2f} ± {summary.ci95:.2f}{between}"


def table(options: argparse.Namespace) -> str:
    """Return a Markdown table of all strategies that there are."""
    arms = test_arms()
    lines = [["strategy", *(f"{pulls} pulls" for pulls in PULLS)]]
    lines += [["---"] * len(lines[0])]
    for name, strategy in STRATEGIES.items():
        lines.append([name, *(written([regret(strategy, arms, TRIALS, pulls)]) for pulls in PULLS)])
    cells = []
    for pulls in PULLS:
        folders = [options.out / f"rl2_{pulls}-{seed}" for seed in range(options.seeds)]
        found = [regret_of_run(folder, arms) for folder in folders if (folder / "finished").exists()]
        cells.append(written(found) if found else "–")
    lines.append(["[RL²](algorithms/rl2.md)", *cells])
    return "\n".join(line_of(each) for each in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, then write the table."""
    parser = argparse.ArgumentParser("bandits", description=(about or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each training")
    parser.add_argument("--pulls", type=int, nargs="*", default=PULLS, help="trainings, by their number of pulls")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bandits", help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each on one thread")
    parser.add_argument("--no-page", action="store_true", help="print the table only")
    options, more = parser.parse_known_args(arguments)
    options.more = more
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = [
            pool.submit(trained, pulls, seed, options) for seed, pulls in product(range(options.seeds), options.pulls)
        ]
        for job in jobs:
            job.result()
    text = table(options)
    print(text)
    if not options.no_page:
        write_into(ROOT / "docs" / "results.md", "bandits", text)


if __name__ == "__main__":
    main()
