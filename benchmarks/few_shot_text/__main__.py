"""The command line of the comparison."""

import argparse
import contextlib
import multiprocessing
import os
import re
import statistics
import sys
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from benchmarks.methods import line_of, signed, write_into

from metalit.evaluation.results import read_episodes, read_results
from metalit.main import main as metalit
from metalit.metrics import Summary
from metalit.metrics.intervals import summarise

from . import __doc__ as about

ROOT = Path(__file__).parents[2]
ROWS = Path(__file__).with_name("rows.yaml")
SETS = {"clinc150": "CLINC150", "banking77": "Banking77"}
SPLITS = ("01", "02", "03", "04", "05")
TESTS = ((5, 1), (5, 5), (15, 5))  # ways and shots
Row = Mapping[str, Any]


class Place(NamedTuple):
    """One row on one class split of one data set."""

    name: str
    dataset: str
    split: str
    out: Path

    def trained(self, ways: int | None) -> Path:
        """Return the folder of the training, of as many ways if the method fixes them."""
        return self._folder("" if ways is None else f"-{ways}way")

    def tested(self, ways: int, shots: int) -> Path:
        """Return the folder of one test."""
        return self._folder(f"-{ways}way{shots}shot")

    def _folder(self, end: str) -> Path:
        name = re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")
        return self.out / self.dataset / self.split / f"{name}{end}"


def run(words: Sequence[str], log: Path) -> bool:
    """Run a command of metalit in a process of its own, which has the imports of this one; return whether it ended."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=logged, args=(words, log))
    process.start()
    process.join()
    if process.exitcode:
        print(f"failed, see {log}", file=sys.stderr)
    return process.exitcode == 0


def logged(words: Sequence[str], log: Path) -> None:
    """Run a command of metalit; what it prints goes to the end of a file."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # whoever called may have put other streams in their place
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
    print("$ python train.py", *words, flush=True)
    code = 1
    try:
        metalit(words)
        code = 0
    except BaseException:  # also the exit after a mistake in options
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)  # not sys.exit, which would wait for the pool's threads, which are not in this process


def common(place: Place, config: Row, options: argparse.Namespace) -> list[str]:
    """Return the words of a command line for one config with its options."""
    words = ["--config", f"configs/clinc150/{config['config']}.yaml", "--trainer.enable_progress_bar", "false"]
    words += ["--config", "configs/data/banking77.yaml"] if place.dataset == "banking77" else []
    words += ["--data.root", str(Path(options.root) / place.dataset), "--data.splits", f"protaugment/{place.split}"]
    values = {key: value for key, value in config.items() if "." in key}
    return words + [
        str(word) for key, value in values.items() for word in (f"--{key}", options.folders.get(value, value))
    ]


def train_and_test(place: Place, row: Row, options: argparse.Namespace) -> None:
    """Train, if the row has ``fit``, and test one row on one split, as far as it has no results."""
    for ways, shots in TESTS:
        folder = place.tested(ways, shots)
        if (folder / "results.json").exists() or ways not in row.get("ways", (ways,)):
            continue
        on_features = "config" in row.get("test", {})
        words = common(place, row["test"] if on_features else {**row, **row.get("test", {})}, options)
        words += ["--data.ways", str(ways), "--data.shots", str(shots), "--run_dir", str(folder)]
        if "fit" in row:
            training = place.trained(ways if row.get("fixes_ways") else None)
            if not fitted(training, common(place, row, options), row, ways):
                return
            best = str(training / "checkpoints" / "best.ckpt")
            words += ["--data.features.weights", best] if on_features else ["--ckpt_path", best]
        if not run(["test", *words], folder.with_suffix(".log")):
            return


def fitted(folder: Path, words: Sequence[str], row: Row, ways: int) -> bool:
    """Train in a folder, or finish a training; return whether it is finished."""
    done = folder / "finished"
    if done.exists():
        return True
    more = [word for key, value in row["fit"].items() for word in (f"--{key}", str(value))]
    more += ["--data.ways", str(ways)] if row.get("fixes_ways") else []
    more += ["--ckpt_path", "last"] if (folder / "checkpoints" / "last.ckpt").exists() else []
    if not run(["fit", *words, *more, "--run_dir", str(folder)], folder.with_suffix(".log")):
        return False
    done.touch()
    return True


def tested_splits(name: str, dataset: str, test: tuple[int, int], out: Path) -> list[Path]:
    """Return the folders of a row's tests that have results, one for each split."""
    folders = [Place(name, dataset, split, out).tested(*test) for split in SPLITS]
    return [folder for folder in folders if (folder / "results.json").exists()]


def cell(name: str, row: Row, dataset: str, test: tuple[int, int], out: Path) -> str:
    """Return the mean over splits and episodes, and the difference to the row that this one is compared with."""
    folders = tested_splits(name, dataset, test, out)
    if not folders:
        return "–"
    values = [read_episodes(folder)["accuracy"] for folder in folders]
    pooled = summarise(torch.cat(values))
    means = [float(each.mean()) for each in values]
    few = len(folders) < len(SPLITS)
    of = f"split{'s' * (len(means) > 1)} {', '.join(folder.parent.name for folder in folders)}" if few else "splits"
    notes = [f"{of}: {min(means):.3f} to {max(means):.3f}" if len(means) > 1 else of]
    text = f"{statistics.mean(means):.4f} ± {pooled.ci95:.4f}"
    if (other := row.get("against")) is not None:
        theirs = {folder.parent.name: folder for folder in tested_splits(other, dataset, test, out)}
        pairs = [(folder, theirs[folder.parent.name]) for folder in folders if folder.parent.name in theirs]
        notes += [f"{signed(difference(pairs))}"] if pairs else []
    return f"{text} ({'; '.join(notes)})"


def difference(pairs: Sequence[tuple[Path, Path]]) -> Summary:
    """Summarise the differences in accuracy on the episodes that each pair of tests shares, the first ones of both."""
    differences = []
    for ours, theirs in (map(read_episodes, pair) for pair in pairs):
        both = min(len(ours["episode"]), len(theirs["episode"]))
        assert torch.equal(ours["episode"][:both], theirs["episode"][:both])
        differences.append(ours["accuracy"][:both] - theirs["accuracy"][:both])
    return summarise(torch.cat(differences))


def table(rows: Mapping[str, Row], out: Path) -> str:
    """Return a Markdown table of the rows that have results."""
    columns = list(product(SETS, TESTS))
    head = [
        "method",
        "against",
        "episodes per split",
        *(f"{SETS[of]}, {ways}-way {shots}-shot" for of, (ways, shots) in columns),
    ]
    lines = [head, ["---"] * len(head)]
    for name, row in rows.items():
        folders = [folder for dataset, test in columns for folder in tested_splits(name, dataset, test, out)]
        if folders:
            counts = sorted({str(read_results(folder)["episodes"]) for folder in folders})
            linked = f"[{name}](../configs/clinc150/{row['config']}.yaml)"
            first = [linked, row.get("against", "–"), " and ".join(counts)]
            lines.append([*first, *(cell(name, row, dataset, test, out) for dataset, test in columns)])
    return "\n".join(line_of(each) for each in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser("few_shot_text", description=(about or "").partition("\n")[0])
    parser.add_argument("--root", required=True, help="the folder that holds clinc150 and banking77")
    parser.add_argument("--minilm", type=Path, default=None, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--static", type=Path, default=None, help="folder of static vectors in model2vec's form")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "few_shot_text", help="folder of the runs")
    parser.add_argument("--only", nargs="*", default=[], help="rows, by name; all if not given")
    parser.add_argument("--sets", nargs="*", default=list(SETS), help="data sets; both if not given")
    parser.add_argument("--splits", nargs="*", default=SPLITS, help="class splits; all five if not given")
    parser.add_argument("--jobs", type=int, default=1, help="rows at once")
    options = parser.parse_args(arguments)
    options.root, options.out = Path(options.root).resolve(), options.out.resolve()
    given = {"MINILM": options.minilm, "STATIC": options.static}
    options.folders = {name: folder.resolve() for name, folder in given.items() if folder is not None}
    rows: dict[str, Row] = yaml.safe_load(ROWS.read_text())
    needed = {name: {word for word in given if word in str(row)} for name, row in rows.items()}
    usable = {name: row for name, row in rows.items() if needed[name] <= set(options.folders)}
    usable = {name: usable[name] for name in options.only or usable}
    if options.folders:
        import transformers  # noqa: F401  # once, before the processes of the single runs are forked
    with contextlib.chdir(ROOT), ThreadPoolExecutor(options.jobs) as pool:
        places = product(options.splits, usable, options.sets)
        jobs = [
            pool.submit(train_and_test, Place(name, dataset, split, options.out), usable[name], options)
            for split, name, dataset in places
        ]
        for job in jobs:
            job.result()
    text = table(rows, options.out)
    print(text)
    write_into(ROOT / "docs" / "results.md", "few_shot_text", text)


if __name__ == "__main__":
    main()
