"""Every script in benchmarks/ runs, in its quick mode, and measures something."""

import json
import os
import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from metalit.main import main
from metalit.metrics import summarise

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
OF_ACCURACY = ("methods.py",)  # measures no speed, so it ends with no ratio


def run(script, folder):
    done = subprocess.run(
        [sys.executable, str(script), "--quick"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir()), "a benchmark must leave nothing behind"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [each for each in SCRIPTS if each.name not in OF_ACCURACY], ids=lambda script: script.name
)
def test_a_benchmark_runs(script, tmp_path):
    *_, ratio = run(script, tmp_path).strip().splitlines()
    median, low, high = map(float, re.findall(r"[\d.]+", ratio.replace(",", ""))[-3:])
    assert 0 < low <= median <= high


@pytest.mark.slow
def test_all_methods_become_one_table(tmp_path):
    page = (ROOT / "docs" / "results.md").read_text()
    table = [line for line in run(ROOT / "benchmarks" / "methods.py", tmp_path).splitlines() if line[:1] == "|"]
    assert (ROOT / "docs" / "results.md").read_text() == page
    head, _, maml, fomaml = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    as_trained = "after the steps it was trained with: mean; median"
    assert head[:6] == ["method", "family", as_trained, "before adaptation", "after 1 step", "after 10 steps"]
    assert head[8:] == ["trained on", "inner steps", "transductive", "parameters", "meta-steps"]
    assert ("`maml`" in maml[0], "`fomaml`" in fomaml[0], maml[1]) == (True, True, "gradient")
    assert maml[6:8] == ["20", "–"]
    mean, middle = maml[2].split("; ")
    assert (mean, re.fullmatch(r"\d\.\d{4}", middle) is None) == (maml[4], False)
    assert len(re.findall(r"[+-]\d\.\d{4} ± \d\.\d{4}", fomaml[7])) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jsonargparse's, in metalit.loading
def test_how_a_method_is_trained_is_read_from_its_config_and_the_plan():
    script = runpy.run_path(str(ROOT / "benchmarks" / "methods.py"))
    found = {
        name: list(script["training"](name, config, "omniglot").values())
        for name, config in script["methods"]("omniglot", ["maml", "cavia", "baseline", "feat"]).items()
    }
    assert found["maml"] == ["5-way 1-shot, 3 queries, 16 tasks", "1", "yes", "28,485", "4,000"]
    assert found["cavia"][:3] == ["5-way 1-shot, 3 queries, 16 tasks", "2", "yes"]
    assert found["baseline"] == ["16 classes × 2 images", "–", "no", "379,216", "8,000"]
    assert found["feat"] == ["20-way 1-shot, 5 queries, 1 task", "–", "no", "128,512", "1,500"]


def test_a_median_is_that_of_the_episodes(tmp_path):
    (tmp_path / "episodes.csv").write_text("episode,mse_step5\n0,0.25\n1,1e9\n2,0.5\n")
    median = runpy.run_path(str(ROOT / "benchmarks" / "methods.py"))["median"]
    assert median(tmp_path, "mse_step5") == "0.5000"


PLANS = {
    path.name.removesuffix("_in_minutes.yaml"): yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "benchmarks").glob("*_in_minutes.yaml"))
}
PLANNED = [(dataset, name) for dataset, plan in PLANS.items() for name in plan]


def test_a_row_without_a_run_stays_as_the_page_has_it(tmp_path):
    script = runpy.run_path(str(ROOT / "benchmarks" / "methods.py"))
    before = script["rows_in"](ROOT / "docs" / "results.md", "omniglot")
    assert {"maml", "protonet"} <= before.keys()
    *_, maml, protonet = script["table"](
        "omniglot", script["methods"]("omniglot", ["maml", "protonet"]), tmp_path, before
    ).splitlines()
    assert (maml, protonet) == (before["maml"], before["protonet"])


@pytest.mark.parametrize("dataset", PLANS)
def test_planned_methods_have_configs_of_one_protocol(dataset):
    episodes = []
    for name in PLANS[dataset]:
        data = yaml.safe_load((ROOT / "configs" / dataset / f"{name}.yaml").read_text())["data"]["init_args"]
        episodes += [{key: data[key] for key in ("ways", "shots", "queries", "test_episodes")}]
    assert episodes == episodes[:1] * len(episodes)


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "name"), PLANNED)
def test_plan_is_valid(dataset, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    planned_options = runpy.run_path(str(ROOT / "benchmarks" / "methods.py"))["planned_options"]
    options = planned_options(name, dataset, tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", f"configs/{dataset}/{name}.yaml", *options, "--print_config"])
    assert stop.value.code == 0, capsys.readouterr().err


def result(folder, shots, accuracies, images="200"):
    """Write what the table reads of a test and, with 1 shot, of the training before it."""
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"global_step": 1500}, folder / "checkpoints" / "best.ckpt")
    setting = {"data": "CIFARFS", "ways": 5, "shots": shots, "queries": 15, "data_seed": 0, "images_per_class": images}
    summary = summarise(torch.tensor(accuracies))._asdict()
    results = {"split": "test", "episodes": len(accuracies), "metrics": {"accuracy": summary}, "setting": setting}
    (folder / "results.json").write_text(json.dumps(results))
    rows = [f"{episode},{accuracy}\n" for episode, accuracy in enumerate(accuracies)]
    (folder / "episodes.csv").write_text("".join(["episode,accuracy\n", *rows]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jsonargparse's, in metalit.loading
def test_a_table_of_several_shots_has_the_published_figures_beside_it(tmp_path):
    script = runpy.run_path(str(ROOT / "benchmarks" / "methods.py"))
    for name, better in (("maml", 0.0), ("protonet", 0.125), ("r2d2", 0.25)):
        result(tmp_path / name, 1, [0.25 + better, 0.5 + better])
        if name != "r2d2":  # which has not been tested with 5 shots
            result(tmp_path / f"{name}-5shot", 5, [0.5, 0.5])
    configs = script["methods"]("cifar_fs", ["maml", "protonet", "r2d2"])
    head, _, *rows = script["table"]("cifar_fs", configs, tmp_path).splitlines()
    head, maml, protonet = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *rows)]
    assert head[2:8] == [
        "1-shot",
        "1-shot, published",
        "5-shot",
        "5-shot, published",
        "published with",
        "images per class",
    ]
    assert (maml[2][:6], maml[3]) == ("0.3750", "58.9 ± 1.9 %")
    assert (protonet[2][:6], protonet[3]) == ("0.5000", "55.5 ± 0.7 %")
    assert protonet[4:6] == ["0.5000 ± 0.0000", "72.0 ± 0.6 %"]
    assert protonet[7:10] == ["200", "1,500", "+0.1250 ± 0.0000; +0.0000 ± 0.0000"]


def test_published_figures_are_of_planned_methods():
    published = yaml.safe_load((ROOT / "benchmarks" / "published.yaml").read_text())
    assert published.keys() <= PLANS.keys()
    for dataset, rows in published.items():
        assert rows.keys() <= PLANS[dataset].keys()
        assert all(row.keys() == {1, 5, "with"} for row in rows.values())


def test_every_benchmark_is_described():
    page = (ROOT / "benchmarks" / "README.md").read_text()
    assert SCRIPTS
    assert [script.name for script in SCRIPTS if f"`{script.name}`" not in page] == []


@pytest.fixture
def benchmark_packages(monkeypatch):
    """Make the packages in benchmarks/ importable, as with ``python -m`` from the repository's root."""
    monkeypatch.syspath_prepend(ROOT)


def test_strategies_for_bandits_learn(benchmark_packages):
    strategies = import_module("benchmarks.bandits.strategies")
    arms = torch.tensor([[0.1, 0.9, 0.2], [0.8, 0.3, 0.1]])
    found = {
        name: strategies.regret(getattr(strategies, name), arms, trials=50, pulls=100)
        for name in ("at_random", "ucb1", "thompson_sampling")
    }
    assert found["at_random"].tolist() == pytest.approx([50.0, 40.0], rel=0.05)  # 100 times the mean difference
    assert (found["ucb1"] < 0.5 * found["at_random"]).all()
    assert (found["thompson_sampling"] < 0.3 * found["at_random"]).all()


def test_regret_is_that_of_the_expected_reward(benchmark_packages):
    strategies = import_module("benchmarks.bandits.strategies")
    arms, chosen = torch.tensor([[0.1, 0.9, 0.2]]), torch.tensor([[0, 1, 2]])
    torch.testing.assert_close(strategies.regret_of(arms, chosen), torch.tensor([[0.8, 0.0, 0.7]]))


def test_a_table_of_navigation_has_means_over_seeds(benchmark_packages, tmp_path):
    script = import_module("benchmarks.navigation.__main__")
    rows = yaml.safe_load((ROOT / "benchmarks" / "navigation" / "rows.yaml").read_text())
    for seed, returns in enumerate([[-40.0, -20.0, -12.0, -11.0], [-42.0, -22.0, -14.0, -13.0]]):
        folder = script.folder_of("MAML", seed, tmp_path)
        folder.mkdir()
        by_step = [{"step": step, "mean": value, "ci95": 1.0, "std": 3.0} for step, value in enumerate(returns)]
        results = {"split": "test", "episodes": 40, "setting": {}, "metrics": {}, "by_step": {"return": by_step}}
        (folder / "results.json").write_text(json.dumps(results))
    *_, alone = script.table(rows, 1, tmp_path).splitlines()
    assert alone.endswith("| 1 | -40.0 ± 1.0 | -20.0 ± 1.0 | -12.0 ± 1.0 | -11.0 ± 1.0 |")
    *_, both = script.table(rows, 3, tmp_path).splitlines()
    assert both.endswith("| 2 | -41.0 ± 12.7 | -21.0 ± 12.7 | -13.0 ± 12.7 | -12.0 ± 12.7 |")


@pytest.mark.parametrize("name", yaml.safe_load((ROOT / "benchmarks" / "navigation" / "rows.yaml").read_text()))
def test_rows_of_navigation_are_valid(name, benchmark_packages, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    script = import_module("benchmarks.navigation.__main__")
    row = yaml.safe_load(script.ROWS.read_text())[name]
    best = {option: values[0] for option, values in row.get("best_of", {}).items()}
    options = {key: value for key, value in row.items() if "." in key} | row.get("fit", {}) | row.get("test", {}) | best
    config = f"configs/navigation/{row['config']}.yaml"
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", config, *script.words(options | script.QUICK), "--print_config"])
    assert stop.value.code == 0, capsys.readouterr().err
