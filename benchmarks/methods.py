"""Trains and tests every method that has a config for a data set, and writes one table of them into docs/results.md.

    python benchmarks/methods.py sinusoid
    python benchmarks/methods.py omniglot --root DATA
    python benchmarks/methods.py cifar_fs --root DATA
    python benchmarks/methods.py fc100 --root DATA

On images those methods are trained that ``<dataset>_in_minutes.yaml`` has settings for; on CIFAR-FS and FC100 each is
tested with 1 and with 5 shots, with what ``published.yaml`` quotes beside it. All have the protocol of one method, MAML
if there is a config: the same episodes in the same order, and the same test episodes, on which each is compared with it
one by one. How a method was trained is read from its config and the plan. A run whose folder has
results already is not repeated, one that was interrupted is resumed. The table stands between ``<!-- table:NAME -->``
and its end; the row of a method that has no run in ``--out`` stays as it is there.
"""

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import yaml

from metalit.algorithms import GradientBasedMetaLearner
from metalit.evaluation import paired_difference, read_results
from metalit.loading import LoadedRun, make
from metalit.metrics import Summary

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"
FAMILIES = ("gradient", "metric", "memory", "generative", "probabilistic")
RATES_BY_STEP = ("maml_plus_plus",)  # of more steps than it was trained with, such a method says nothing
OF_OPTIMIZERS = ("model.optimizer", "model.lr_scheduler")
AS_TRAINED = "after the steps it was trained with"
OF_IMAGES = ("published with", "images per class")
TRAINING = ("trained on", "inner steps", "transductive", "parameters", "meta-steps")
SAME = ("ways", "shots")  # a config with others than the reference's is another experiment


class Protocol(NamedTuple):
    """What is reported of a data set.

    Attributes:
        metric: of each episode.
        steps: inner steps in the test that the table shows; the last is how many are taken. None: as configured.
        plan: file of what is given to fit and test beside each method's config. None: nothing, to all methods.
        shots: of the tests of each method, those of the configs first. Empty: one test, as configured.
        reference: the method that all others are compared with.
    """

    metric: str
    steps: tuple[int, ...] | None = None
    plan: Path | None = None
    shots: tuple[int, ...] = ()
    reference: str = "maml"


HERE = Path(__file__).parent
PROTOCOLS = {
    "sinusoid": Protocol("mse", (1, 10)),
    "omniglot": Protocol("accuracy", plan=HERE / "omniglot_in_minutes.yaml"),
    "cifar_fs": Protocol("accuracy", plan=HERE / "cifar_fs_in_minutes.yaml", shots=(1, 5)),
    "fc100": Protocol("accuracy", plan=HERE / "fc100_in_minutes.yaml", shots=(1, 5), reference="protonet"),
}


def methods(dataset: str, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the configs of a data set that share the protocol of its reference, by name, in the order of the table.

    That is the reference, mostly MAML, and then family by family.
    """
    files = sorted((ROOT / "configs" / dataset).glob("*.yaml"))
    configs = {path.stem: yaml.safe_load(path.read_text()) for path in files}
    ours = {name: {key: config["data"]["init_args"].get(key) for key in SAME} for name, config in configs.items()}
    chosen = only or plan(dataset) or configs
    reference = PROTOCOLS[dataset].reference
    names = [name for name in configs if ours[name] == ours[reference] and name in chosen]
    first = FAMILIES.index
    order = sorted(names, key=lambda name: (name != reference, first(family(configs[name])), name))
    return {name: configs[name] for name in order}


def plan(dataset: str) -> dict[str, dict[str, Any]]:
    """Return the options of each method of a data set's plan, by name; nothing if it has none."""
    file = PROTOCOLS[dataset].plan
    return {} if file is None else yaml.safe_load(file.read_text())


def planned_options(name: str, dataset: str, out: Path) -> list[str]:
    """Return what the plan gives to fit and test of one method, for the command line."""
    options = []
    for option, value in plan(dataset).get(name, {}).items():
        if option == "pretrained":
            option, value = "model.pretrained", out / value / "checkpoints" / "best.ckpt"
        options += [f"--{option}", str(value)]
    return options


def algorithm(config: Mapping[str, Any]) -> type:
    """Return the class of a config's method."""
    from metalit import algorithms

    found: type = getattr(algorithms, config["model"]["class_path"].rpartition(".")[2])
    return found


def takes_steps(config: Mapping[str, Any]) -> bool:
    """Whether a config's method adapts in inner steps, whose number the test chooses."""
    return issubclass(algorithm(config), GradientBasedMetaLearner)


def family(config: Mapping[str, Any]) -> str:
    """Return the family of a config's method: the folder of its algorithm."""
    return algorithm(config).__module__.split(".")[2]


def made(name: str, config: Mapping[str, Any], dataset: str) -> tuple[LoadedRun, int]:
    """Return the learner and the data module that a config and its part of the plan describe, and the meta-steps."""
    settings = json.loads(json.dumps(config))  # a copy
    for key, value in plan(dataset).get(name, {}).items():
        if key == "config":
            merge(settings, yaml.safe_load((ROOT / value).read_text()))
        elif key != "pretrained" and not key.startswith(OF_OPTIMIZERS):
            place(settings, key.split("."), value)
    for part in ("optimizer", "lr_scheduler"):  # of which the table says nothing
        settings["model"]["init_args"].pop(part, None)
    torch.manual_seed(0)
    run = make({key: settings[key] for key in ("model", "data")}, ROOT / "configs" / dataset / f"{name}.yaml")
    return run, settings["trainer"]["max_steps"]


def merge(settings: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    """Write an overlay into settings."""
    for key, value in overlay.items():
        if isinstance(value, Mapping):
            merge(settings.setdefault(key, {}), value)
        else:
            settings[key] = value


def place(settings: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Write the value of an option, whose name leaves out every ``init_args``."""
    *path, last = keys
    for key in path:
        settings = settings.get("init_args", settings).setdefault(key, {})
    settings.get("init_args", settings)[last] = value


def training(name: str, config: Mapping[str, Any], dataset: str) -> dict[str, str]:
    """Return how a method is trained, by column of the table: what makes its row comparable, or not."""
    (learner, data), meta_steps = made(name, config, dataset)
    shots = f"{data.train_shots}-shot" if data.train_shots else ""
    tasks = f"{data.tasks_per_batch} task{'s' * (data.tasks_per_batch > 1)}"
    trained_on = f"{shots}, {data.train_queries} queries, {tasks}"
    train_ways = getattr(data, "train_ways", None)  # of classification alone
    if getattr(data, "train_labels", "episode") == "split":
        trained_on = f"{train_ways} classes × {data.train_shots + data.train_queries} images"
    elif train_ways is not None:
        trained_on = f"{train_ways}-way {trained_on}"
    steps = learner.inner_steps if isinstance(learner, GradientBasedMetaLearner) else None
    return {
        "trained on": trained_on.replace(" 1 queries", " 1 query"),
        "inner steps": "–" if steps is None else str(steps),
        "transductive": "yes" if learner.transductive() else "no",
        "parameters": f"{sum(each.numel() for each in learner.parameters() if each.requires_grad):,}",
        "meta-steps": f"{meta_steps:,}",
    }


def train_and_test(name: str, config: Mapping[str, Any], dataset: str, out: Path, options: argparse.Namespace) -> None:
    """Fit and test one method in ``out/name``; what it prints goes to ``out/name.log``."""
    common = ["--config", f"configs/{dataset}/{name}.yaml"]
    common += planned_options(name, dataset, out)
    common += ["--trainer.enable_progress_bar", "false", *options.more]
    common += ["--data.root", options.root] if options.root else []
    last, best = (out / name / "checkpoints" / f"{which}.ckpt" for which in ("last", "best"))
    steps, commands = PROTOCOLS[dataset].steps, []
    for shots, folder in tests_of(name, dataset, out).items():
        if (folder / "results.json").exists():
            continue
        if folder == out / name:
            resumed = ["--ckpt_path", "last"] if last.exists() else []
            commands += [["fit", *common, "--run_dir", str(folder), *resumed]]
        test = ["test", *common, "--run_dir", str(folder), "--ckpt_path", str(best)]
        if steps and takes_steps(config):
            learner = made(name, config, dataset)[0].learner
            assert isinstance(learner, GradientBasedMetaLearner)
            most = max(steps[-1], learner.inner_steps)
            test += ["--model.eval_inner_steps", str(most)]
        commands += [[*test, "--data.shots", str(shots)] if shots else test]
    with (out / f"{name}.log").open("a") as log:
        for command in commands:
            print("$ python train.py", *command, file=log, flush=True)
            done = subprocess.run(
                [sys.executable, "train.py", *command],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode:
                print(f"{name}: failed, see {log.name}", file=sys.stderr)
                return


def tests_of(name: str, dataset: str, out: Path) -> dict[int | None, Path]:
    """Return the folder of each test of a method, by its shots; the first is that of the training."""
    first, *others = PROTOCOLS[dataset].shots or (None,)
    return {first: out / name, **{shots: out / f"{name}-{shots}shot" for shots in others}}


def is_tested(name: str, dataset: str, out: Path) -> bool:
    """Whether all tests of a method have results."""
    return all((folder / "results.json").exists() for folder in tests_of(name, dataset, out).values())


def table(
    dataset: str, configs: Mapping[str, Mapping[str, Any]], out: Path, before: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return a Markdown table of the methods that have results, or a row from before."""
    metric, steps, _, shots, reference = PROTOCOLS[dataset]
    columns = [f"after {step} step{'s' * (step > 1)}" for step in steps] if steps else []
    columns = [*([f"{AS_TRAINED}: mean; median"] if steps else [metric]), "before adaptation", *columns]
    if shots:
        columns = [f"{number}-shot{more}" for number in shots for more in ("", ", published")] + [*OF_IMAGES]
    against = "MAML" if reference == "maml" else reference
    head = ["method", "family", *columns, "best at meta-step", f"against {against}, episode by episode", *TRAINING]
    lines = [line_of(head), line_of(["---"] * len(head))]
    for name, config in configs.items():
        if is_tested(name, dataset, out):
            lines.append(line_of((row_of_shots if shots else row)(name, config, dataset, out)))
        elif name in before:
            lines.append(before[name])
    return "\n".join(lines)


def line_of(cells: Sequence[str]) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def row(name: str, config: Mapping[str, Any], dataset: str, out: Path) -> list[str]:
    """Return one method's cells."""
    metric, steps, *_ = PROTOCOLS[dataset]
    results, how = read_results(out / name), training(name, config, dataset)
    by_step = results.get("by_step", {}).get(metric)
    trained = int(how["inner steps"]) if how["inner steps"].isdigit() else None
    cells = [f"[`{name}`](../configs/{dataset}/{name}.yaml)", family(config)]
    if steps and by_step and trained:  # TMAML takes no step in training
        cells += [f"{written(by_step[trained])}; {median(out / name, f'{metric}_step{trained}')}"]
    elif steps and by_step:
        cells += ["–"]
    elif steps:
        cells += [f"{written(results['metrics'][metric])}; {median(out / name, metric)}"]
    else:
        cells += [written(results["metrics"][metric])]
    cells += [written(by_step[0]) if by_step else "–"]
    outside = [step for step in steps or () if name in RATES_BY_STEP and trained and step > trained]
    for step in steps or ():
        cells += [written(by_step[step]) if by_step and step not in outside else "–"]
    cells += [f"{trained_steps(out / name):,}"]
    columns = [
        f"{metric}_step{step}" if by_step and steps else metric
        for step in (steps if by_step and steps else [None])
        if step not in outside
    ]
    if name == "maml" or not (out / "maml" / "results.json").exists():
        return [*cells, "–", *how.values()]
    differences = [paired_difference(out / name, out / "maml", column) for column in columns]
    return [*cells, "; ".join(signed(difference) for difference in differences), *how.values()]


def row_of_shots(name: str, config: Mapping[str, Any], dataset: str, out: Path) -> list[str]:
    """Return one method's cells in the table of a protocol with several tests."""
    metric, _, _, _, reference = PROTOCOLS[dataset]
    quoted = yaml.safe_load((HERE / "published.yaml").read_text()).get(dataset, {}).get(name, {})
    folders, others = (tests_of(each, dataset, out) for each in (name, reference))
    cells = [f"[`{name}`](../configs/{dataset}/{name}.yaml)", family(config)]
    for shots, folder in folders.items():
        cells += [written(read_results(folder)["metrics"][metric]), quoted.get(shots, "–")]
    of_images = str(read_results(out / name)["setting"]["images_per_class"])
    cells += [quoted.get("with", "–"), of_images, f"{trained_steps(out / name):,}"]
    differences = []
    if name != reference and is_tested(reference, dataset, out):
        differences = [paired_difference(folder, others[shots], metric) for shots, folder in folders.items()]
    return [*cells, "; ".join(map(signed, differences)) or "–", *training(name, config, dataset).values()]


def median(folder: Path, column: str) -> str:
    """Return the median over the episodes of a run, which a few tasks that diverge leave as it is."""
    with (folder / "episodes.csv").open(newline="") as file:
        return f"{statistics.median(float(episode[column]) for episode in csv.DictReader(file)):.4f}"


def written(summary: Mapping[str, float | None]) -> str:
    """Return mean and interval; where a task diverged, there is none."""
    mean, ci95 = (summary[key] for key in ("mean", "ci95"))
    return "diverges" if mean is None or mean > 1e3 else f"{mean:.4f} ± {ci95:.4f}"


def signed(difference: Summary) -> str:
    """Return a difference and its interval."""
    return f"{difference.mean:+.4f} ± {difference.ci95:.4f}" if abs(difference.mean) < 1e3 else "–"


def trained_steps(folder: Path) -> int:
    """Return how many meta-steps the tested checkpoint has seen."""
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    return int(checkpoint["global_step"])


def rows_in(page: Path, name: str) -> dict[str, str]:
    """Return the lines of a table on a page, by the method that each links to."""
    text = page.read_text().partition(f"<!-- table:{name} -->")[2].partition("<!-- /table")[0]
    return {found[1]: found[0] for found in re.finditer(r"^\| \[`(\w+)`\].*\|$", text, re.MULTILINE)}


def write_into(page: Path, name: str, text: str) -> None:
    """Replace what stands between two marks of a page."""
    begin, end = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
    before, _, rest = page.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page} has no {begin} ... {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", choices=PROTOCOLS, nargs="?", default="sinusoid")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "methods", help="folder of the runs")
    parser.add_argument("--root", help="where the data are (data.root)")
    parser.add_argument("--only", nargs="*", default=[], help="methods, by the name of their config; all if not given")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on one thread")
    parser.add_argument("--table", help="name of the table in docs/results.md; that of the data set if not given")
    parser.add_argument("--quick", action="store_true", help="two methods, a few steps, and docs/results.md untouched")
    options, more = parser.parse_known_args(arguments)
    options.more = more
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.quick:
        return quick(options)
    out = options.out.resolve() / options.dataset
    names = [*options.only] or list(methods(options.dataset))
    run(names, options, out)
    name = options.table or options.dataset
    text = table(options.dataset, methods(options.dataset), out, rows_in(PAGE, name))
    print(text)
    write_into(PAGE, name, text)
    return None


def run(names: Sequence[str], options: argparse.Namespace, out: Path) -> None:
    """Run methods, so many at the same time; those that start from another's network after all others."""
    out.mkdir(parents=True, exist_ok=True)
    configs, planned = methods(options.dataset, names), plan(options.dataset)

    def one(name: str) -> None:
        train_and_test(name, configs[name], options.dataset, out, options)

    second = [name for name in names if "pretrained" in planned.get(name, {})]
    for stage in ([name for name in names if name not in second], second):
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(one, stage))


def quick(options: argparse.Namespace) -> None:
    """Show that it runs."""
    options.dataset, names = "sinusoid", ["maml", "fomaml"]
    options.more += ["--trainer.max_steps=20", "--data.episodes_per_epoch=500", "--data.val_episodes=10"]
    options.more += ["--data.test_episodes=20", "--model.engine.compile=false", "--trainer.accelerator=cpu"]
    with tempfile.TemporaryDirectory() as folder:
        run(names, options, Path(folder))
        print(table("sinusoid", methods("sinusoid", names), Path(folder)))
        finished = [json.loads((Path(folder) / name / "results.json").read_text()) for name in names]
        assert all(len(results["by_step"]["mse"]) == 11 for results in finished)


if __name__ == "__main__":
    main()
