"""The command line of the comparison."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks.methods import write_into

import metalit
from metalit.data import MetaScore
from metalit.loading import LoadedRun

from . import __doc__ as about
from .baselines import (
    Predict,
    RidgePerTask,
    adapted,
    best,
    by_gradient_descent,
    from_scratch,
    mean_of_support,
    unadapted,
)
from .scores import METRICS, Scores, cell, difference, episodes_of, over_clusters, scores, signed, undefined
from .zero_shot import ZeroShot, zero_shot

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guide" / "metascore.md"
TRAINED = {
    "pooled": "pooled network",
    "maml": "MAML",
    "maml_plus_plus": "MAML++",
    "maml_plus_plus_density": "MAML++, density head",
}
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
STEPS = (5, 30)  # of fine-tuning, and of training from scratch
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
VAL_DRAWS = 4


def main(words: Sequence[str] | None = None) -> None:
    """Train what is not trained yet, test everything, and write the table."""
    options = parser().parse_args(words)
    torch.set_num_threads(1)
    runs = {name: fitted(name, options) for name in TRAINED if (options.only is None or name in options.only)}
    data = next(iter(runs.values())).data
    assert isinstance(data, MetaScore)
    table = "\n\n".join([of_adapted(runs, data, options.draws), of_zero_shot(runs, data)])
    sys.stdout.write(f"{table}\n")
    if options.write:
        write_into(PAGE, "metascore", table)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path("runs/metascore"), help="folder of the runs")
    made.add_argument("--only", nargs="+", choices=list(TRAINED), help="these configs alone")
    made.add_argument("--draws", type=int, default=10, help="divisions of each cluster")
    made.add_argument("--write", action="store_true", help="write the table into docs/guide/metascore.md")
    made.add_argument("more", nargs="*", help="options of fit for all configs, after --")
    return made


def fitted(name: str, options: argparse.Namespace) -> LoadedRun:
    """Return the trained run of a config, trained now if it has no checkpoint yet."""
    folder = options.out / name
    if not (folder / "finished").exists():
        command = [sys.executable, "train.py", "fit", "--config", f"configs/metascore/{name}.yaml"]
        command += ["--run_dir", str(folder.absolute()), "--trainer.enable_progress_bar", "false", *options.more]
        resumed = ["--ckpt_path", "last"] if (folder / "checkpoints" / "last.ckpt").exists() else []
        subprocess.run([*command, *resumed], cwd=ROOT, check=True)
        (folder / "finished").touch()
    run = metalit.load(folder)
    run.learner.eval()
    return run


def methods(runs: dict[str, LoadedRun], data: MetaScore) -> dict[str, Predict]:
    """Return the rows of the table: how each predicts an episode."""
    validation = episodes_of(data, "val", VAL_DRAWS)
    rows: dict[str, Predict] = {"mean of the support": mean_of_support}
    data.episodes("train")  # loads the store
    rows["ridge on each task"] = best((RidgePerTask(data, each) for each in PENALTIES), validation[:1])
    for name, run in runs.items():
        learner = run.learner
        if name == "pooled":
            few, many = STEPS
            scratch = (from_scratch(learner, rate, many) for rate in RATES[1:])
            rows["network on each task, from scratch"] = best(scratch, validation[:1])
            rows["pooled network"] = unadapted(learner)
            tuned = (by_gradient_descent(learner, rate, few) for rate in RATES)
            rows["pooled network, fine-tuned"] = best(tuned, validation[:2])
        else:
            rows[f"{TRAINED[name]}, before adaptation"] = unadapted(learner)
            rows[TRAINED[name]] = adapted(learner)
    return rows


def of_adapted(runs: dict[str, LoadedRun], data: MetaScore, draws: int) -> str:
    """Return the table of the clusters that are adapted to."""
    episodes = episodes_of(data, "test", draws)
    found = {name: scores(predict, episodes) for name, predict in methods(runs, data).items()}
    clusters = len(found["mean of the support"]["RMSE"])
    references = [name for name in ("pooled network", "ridge on each task") if name in found]
    head = ["", *METRICS, *(f"Pearson minus {name}" for name in references), "undefined"]
    lines = [line(head), line(["---"] * len(head))]
    lines += [line(row(name, own, found, references)) for name, own in found.items()]
    shots = f"{data.shots} support complexes, all others in the query"
    return "\n".join([f"Adapted: {clusters} clusters, {draws} divisions of each, {shots}.", "", *lines])


def row(name: str, own: Scores, found: dict[str, Scores], references: Sequence[str]) -> list[str]:
    """Return the cells of one method."""
    against = [
        signed(difference(own["Pearson"], found[each]["Pearson"])) if each != name else "–" for each in references
    ]
    values = [cell(over_clusters(own[metric])) for metric in METRICS]
    return [name, *values, *against, str(undefined(own["Pearson"]))]


def of_zero_shot(runs: dict[str, LoadedRun], data: MetaScore) -> str:
    """Return the table of the zero-shot group."""
    apart = MetaScore(
        str(data.file),
        str(data.graphs),
        dict(data.columns),
        train_size=data.train_size,
        val_size=data.val_size,
        test_share=data.test_share,
        test_clusters="zero_shot",
    )
    found = {TRAINED[name]: zero_shot(run.learner.network, apart) for name, run in runs.items()}
    head = ["", "Pearson of all complexes", "Pearson in a cluster", "RMSE in a cluster", "undefined"]
    lines = [line(head), line(["---"] * len(head)), *(line(zero_shot_row(*each)) for each in found.items())]
    first = next(iter(found.values())).by_cluster["RMSE"]
    return "\n".join([f"Zero-shot: {len(first)} clusters, without adaptation.", "", *lines])


def zero_shot_row(name: str, found: ZeroShot) -> list[str]:
    """Return the cells of one method."""
    together = f"{found.together:.3f} ({found.interval[0]:.3f} to {found.interval[1]:.3f})"
    own = found.by_cluster
    values = [cell(over_clusters(own[metric])) for metric in ("Pearson", "RMSE")]
    return [name, together, *values, str(undefined(own["Pearson"]))]


def line(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
