"""Result files and the comparison of two runs."""

import csv
import io
import json

import pytest
import torch
from rich.console import Console

from metalit.evaluation import (
    build_results,
    paired_difference,
    read_episodes,
    read_results,
    results_table,
    write_results,
)
from metalit.metrics import Evaluation, summarise

SETTING = {"data": "Sinusoid", "ways": 5, "shots": 1, "queries": 15, "data_seed": 0, "inner_steps": 2}
VERSIONS = {"metalit": "1", "python": "3"}


def evaluation(stages: int, n: int = 20, seed: int = 0) -> Evaluation:
    table = torch.rand(2, n, stages, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Evaluation(torch.arange(n) * 2, {"loss": table[0], "accuracy": table[1]})


def results_of(values: Evaluation, **changed):
    return build_results("test", values, SETTING | changed, "best.ckpt", VERSIONS)


def write(folder, values: Evaluation, **changed):
    return write_results(folder, results_of(values, **changed), values)


def test_results_of_a_method_that_adapts_in_steps():
    values = evaluation(3)
    results = results_of(values)
    assert set(results) == {"split", "episodes", "metrics", "by_step", "setting", "checkpoint", "versions"}
    assert (results["split"], results["episodes"], results["checkpoint"]) == ("test", 20, "best.ckpt")
    assert results["setting"] == SETTING
    for step, numbers in enumerate(results["by_step"]["accuracy"]):
        assert numbers == {"step": step, **summarise(values.values["accuracy"][:, step])._asdict()}
    final, before = results["metrics"]["accuracy"], results["metrics"]["accuracy_before_adaptation"]
    assert final == summarise(values.values["accuracy"][:, 2])._asdict()
    assert before == summarise(values.values["accuracy"][:, 0])._asdict()
    assert set(results["metrics"]) == {f"{m}{s}" for m in ("loss", "accuracy") for s in ("", "_before_adaptation")}


def test_results_of_a_method_without_steps():
    results = results_of(evaluation(1))
    assert "by_step" not in results
    assert set(results["metrics"]) == {"loss", "accuracy"}


def test_files_hold_what_was_written(tmp_path):
    values = evaluation(3)
    path = write(tmp_path / "new" / "run", values)
    assert path == tmp_path / "new" / "run" / "results.json"
    assert read_results(path.parent) == results_of(values)
    episodes = read_episodes(path.parent)
    assert list(episodes) == ["episode", "loss", "accuracy"] + [
        f"{m}_step{k}" for m in ("loss", "accuracy") for k in range(3)
    ]
    assert torch.equal(episodes["episode"], values.indices)
    assert torch.equal(episodes["accuracy"], values.values["accuracy"][:, -1])
    assert torch.equal(episodes["loss_step1"], values.values["loss"][:, 1])
    assert sorted(p.name for p in path.parent.iterdir()) == ["episodes.csv", "results.json"]


def test_columns_of_a_method_without_steps(tmp_path):
    write(tmp_path, evaluation(1))
    with (tmp_path / "episodes.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["episode", "loss", "accuracy"]


def test_a_single_episode_is_still_valid_json(tmp_path):
    write(tmp_path, evaluation(1, n=1))
    text = (tmp_path / "results.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read_results(tmp_path)["metrics"]["accuracy"]["ci95"] is None


def test_earlier_results_are_kept(tmp_path):
    runs = [evaluation(1, seed=seed) for seed in range(3)]
    for values in runs:
        write(tmp_path, values)
    for values, suffix in zip(runs, ("-1", "-2", ""), strict=True):
        assert json.loads((tmp_path / f"results{suffix}.json").read_text()) == results_of(values)
        rows = (tmp_path / f"episodes{suffix}.csv").read_text().splitlines()[1:]
        kept = [float(row.split(",")[2]) for row in rows]
        assert kept == values.values["accuracy"][:, 0].tolist()


def test_a_kept_pair_never_replaces_another_file(tmp_path):
    (tmp_path / "episodes-1.csv").write_text("mine")
    write(tmp_path, evaluation(1))
    write(tmp_path, evaluation(1))
    assert (tmp_path / "episodes-1.csv").read_text() == "mine"
    assert {p.name for p in tmp_path.glob("*-2.*")} == {"results-2.json", "episodes-2.csv"}


def test_a_failed_write_leaves_the_old_results(tmp_path):
    write(tmp_path, evaluation(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path, {"split": float("nan")}, evaluation(1, seed=1))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("read", [read_results, read_episodes])
def test_a_folder_without_results(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read(tmp_path)


def test_paired_difference_is_that_of_the_episodes(tmp_path):
    a, b = evaluation(1, seed=0), evaluation(3, seed=1)
    write(tmp_path / "a", a)
    write(tmp_path / "b", b, inner_steps=9)  # a setting of the method may differ
    difference = paired_difference(tmp_path / "a", tmp_path / "b", "accuracy")
    assert difference == summarise(a.values["accuracy"][:, 0] - b.values["accuracy"][:, 2])
    opposite = paired_difference(tmp_path / "b", tmp_path / "a", "accuracy")
    assert opposite.mean == pytest.approx(-difference.mean)


def test_pairing_narrows_the_interval_of_methods_that_find_the_same_episodes_hard(tmp_path):
    a = evaluation(1)
    b = Evaluation(a.indices, {name: value - 0.01 for name, value in a.values.items()})
    write(tmp_path / "a", a)
    write(tmp_path / "b", b)
    assert paired_difference(tmp_path / "a", tmp_path / "b", "accuracy").ci95 < 1e-9


def test_different_episodes_cannot_be_paired(tmp_path):
    write(tmp_path / "a", evaluation(1))
    write(tmp_path / "seed", evaluation(1), data_seed=1)
    write(tmp_path / "fewer", evaluation(1, n=19))
    with pytest.raises(ValueError, match="data_seed is 0 in the first and 1"):
        paired_difference(tmp_path / "a", tmp_path / "seed", "accuracy")
    with pytest.raises(ValueError, match="20 episodes in the first, 19"):
        paired_difference(tmp_path / "a", tmp_path / "fewer", "accuracy")


def test_an_unknown_metric_is_named_with_the_known_ones(tmp_path):
    write(tmp_path / "a", evaluation(1))
    with pytest.raises(ValueError, match="no metric 'mse'; it has loss, accuracy"):
        paired_difference(tmp_path / "a", tmp_path / "a", "mse")


def printed(results) -> list[str]:
    console = Console(width=100, file=io.StringIO())
    console.print(results_table(results))
    return console.file.getvalue().splitlines()


def line(lines: list[str], start: str) -> str:
    (found,) = [line for line in lines if line.strip("│ ").startswith(start)]
    return found


def test_table_shows_metrics_steps_and_setting():
    values = evaluation(3)
    lines = printed(results_of(values))
    mean, interval, _ = summarise(values.values["accuracy"][:, 2])
    assert f"{mean:.4f} ± {interval:.4f}" in line(lines, "accuracy  ")
    assert f"{mean:.4f} ± {interval:.4f}" in line(lines, "accuracy after step 2")
    assert f"{summarise(values.values['accuracy'][:, 0]).mean:.4f}" in line(lines, "accuracy before adaptation")
    assert "15" in line(lines, "queries")
    assert "test, 20 episodes" in lines[0]
    assert not any("loss after step" in text for text in lines)


def test_table_of_one_episode_and_of_tiny_errors():
    one = Evaluation(torch.tensor([0]), {"mse": torch.tensor([[1.5e-6]])})
    assert "1.50e-06 ± –" in line(printed(results_of(one)), "mse")
