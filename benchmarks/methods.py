"""Trains and tests every method that has a config for a data set, and writes one table of them into docs/results.md.

    python benchmarks/methods.py sinusoid
    python benchmarks/methods.py omniglot --root DATA

On Omniglot those methods are trained that ``omniglot_in_minutes.yaml`` has settings for. All have the protocol of
``configs/<dataset>/maml.yaml``: the same episodes in the same order, and the same test episodes, on which each is
compared with MAML one by one. A run whose folder has results already is not repeated, one that was interrupted goes on
where it was. The table stands between ``<!-- table:NAME -->`` and its end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from metalit.evaluation import paired_difference, read_results
from metalit.metrics import Summary

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"
FAMILIES = ("gradient", "metric", "memory", "generative", "probabilistic")
SAME = ("ways", "shots")  # a config with others than maml.yaml's is another experiment


class Protocol(NamedTuple):
    """What is reported of a data set.

    Attributes:
        metric: of each episode.
        steps: inner steps in the test that the table shows; the last is how many are taken. None: as configured.
        plan: file of what is given to fit and test beside each method's config. None: nothing, to all methods.
    """

    metric: str
    steps: tuple[int, ...] | None
    plan: Path | None


PROTOCOLS = {
    "sinusoid": Protocol("mse", (1, 10), None),
    "omniglot": Protocol("accuracy", None, Path(__file__).with_name("omniglot_in_minutes.yaml")),
}


def methods(dataset: str, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the configs of a data set that share the protocol of ``maml.yaml``, by name, in the order of the table.

    That is MAML, the other methods of its family, and then family by family.
    """
    files = sorted((ROOT / "configs" / dataset).glob("*.yaml"))
    configs = {path.stem: yaml.safe_load(path.read_text()) for path in files}
    ours = {
        name: {key: config["data"]["init_args"].get(key) for key in SAME} for name, config in configs.items()
    }
    chosen = only or plan(dataset) or configs
    names = [name for name in configs if ours[name] == ours["maml"] and name in chosen]
    first = FAMILIES.index
    order = sorted(names, key=lambda name: (name != "maml", first(family(configs[name])), name))
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
    from metalit import algorithms  # only here, for torch takes seconds to load

    found: type = getattr(algorithms, config["model"]["class_path"].rpartition(".")[2])
    return found


def takes_steps(config: Mapping[str, Any]) -> bool:
    """Whether a config's method adapts in inner steps, whose number the test chooses."""
    from metalit.algorithms import GradientBasedMetaLearner  # only here, for torch takes seconds to load

    return issubclass(algorithm(config), GradientBasedMetaLearner)


def family(config: Mapping[str, Any]) -> str:
    """Return the family of a config's method: the folder of its algorithm."""
    return algorithm(config).__module__.split(".")[2]


def train_and_test(
    name: str, config: Mapping[str, Any], dataset: str, out: Path, options: argparse.Namespace
) -> None:
    """Fit and test one method in ``out/name``; what it prints goes to ``out/name.log``."""
    folder, steps = out / name, PROTOCOLS[dataset].steps
    if (folder / "results.json").exists():
        return
    common = ["--config", f"configs/{dataset}/{name}.yaml"]
    common += planned_options(name, dataset, out)
    common += ["--run_dir", str(folder), "--trainer.enable_progress_bar", "false", *options.more]
    common += ["--data.root", options.root] if options.root else []
    last = folder / "checkpoints" / "last.ckpt"
    test = ["--model.eval_inner_steps", str(steps[-1])] if steps and takes_steps(config) else []
    commands = [
        ["fit", *common, *(["--ckpt_path", "last"] if last.exists() else [])],
        ["test", *common, "--ckpt_path", "best", *test],
    ]
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


def table(dataset: str, configs: Mapping[str, Mapping[str, Any]], out: Path) -> str:
    """Return a Markdown table of the methods that have results."""
    metric, steps, _ = PROTOCOLS[dataset]
    columns = [f"after {step} step{'s' * (step > 1)}" for step in steps] if steps else [metric]
    head = [
        "method",
        "family",
        "before adaptation",
        *columns,
        "best at meta-step",
        "against MAML, episode by episode",
    ]
    rows = [head, ["---"] * len(head)]
    for name, config in configs.items():
        if (out / name / "results.json").exists():
            rows.append(row(name, config, dataset, out))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def row(name: str, config: Mapping[str, Any], dataset: str, out: Path) -> list[str]:
    """Return one method's cells."""
    metric, steps, _ = PROTOCOLS[dataset]
    results = read_results(out / name)
    by_step = results.get("by_step", {}).get(metric)
    cells = [f"[`{name}`](../configs/{dataset}/{name}.yaml)", family(config)]
    cells += [written(by_step[0]) if by_step else "–"]
    shown = [by_step[step] for step in steps] if steps and by_step else [results["metrics"][metric]]
    cells += ["–"] * (len(steps or [0]) - len(shown)) + [written(summary) for summary in shown]
    cells += [f"{trained_steps(out / name):,}"]
    if name == "maml" or not (out / "maml" / "results.json").exists():
        return [*cells, "–"]
    columns = [f"{metric}_step{step}" for step in steps] if steps and by_step else [metric]
    differences = [paired_difference(out / name, out / "maml", column) for column in columns]
    return [*cells, "; ".join(signed(difference) for difference in differences)]


def written(summary: Mapping[str, float | None]) -> str:
    """Return mean and interval; where a task diverged, there is none."""
    mean, ci95 = (summary[key] for key in ("mean", "ci95"))
    return "diverges" if mean is None or mean > 1e3 else f"{mean:.4f} ± {ci95:.4f}"


def signed(difference: Summary) -> str:
    """Return a difference and its interval."""
    return f"{difference.mean:+.4f} ± {difference.ci95:.4f}" if abs(difference.mean) < 1e3 else "–"


def trained_steps(folder: Path) -> int:
    """Return how many meta-steps the tested checkpoint has seen."""
    import torch  # only here, for it takes seconds to load

    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    return int(checkpoint["global_step"])


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
    parser.add_argument(
        "--only", nargs="*", default=[], help="methods, by the name of their config; all if not given"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each on one thread")
    parser.add_argument(
        "--table", help="name of the table in docs/results.md; that of the data set if not given"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two methods, a few steps, and docs/results.md untouched"
    )
    options, options.more = parser.parse_known_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.quick:
        return quick(options)
    out = options.out.resolve() / options.dataset
    names = [*options.only] or list(methods(options.dataset))
    run(names, options, out)
    text = table(options.dataset, methods(options.dataset), out)
    print(text)
    write_into(PAGE, options.table or options.dataset, text)
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
