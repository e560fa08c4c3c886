"""The results of a sweep as tables: nothing is dropped, and few seeds have wide intervals."""

import csv
import json
import math

import pytest
import torch

from commands import complaint
from metalit.cluster.base import Job, Task
from metalit.commands.collect import collect, collect_command, compare, over_seeds
from metalit.evaluation import build_results, write_results
from metalit.main import main
from metalit.metrics.episode_values import Evaluation


def write_run(folder, values, split="test", **setting):
    """Write what a test leaves in a run folder."""
    accuracy = torch.tensor(values, dtype=torch.float64)[:, None]
    evaluation = Evaluation(torch.arange(len(values)), {"accuracy": accuracy, "loss": 1 - accuracy})
    setting = {"data": "Glyphs", "ways": 5, "shots": 1, "queries": 15, "data_seed": 0} | setting
    write_results(folder, build_results(split, evaluation, setting, None, {}), evaluation)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def sweep(tmp_path):
    """Two settings with three seeds each; each seed is better by 0.02 in the second."""
    for seed, level in enumerate((0.5, 0.6, 0.7)):
        write_run(tmp_path / f"seed_everything={seed},inner_steps=1", [level - 0.1, level + 0.1, level])
        write_run(tmp_path / f"seed_everything={seed},inner_steps=5", [level - 0.08, level + 0.12, level + 0.02])
    return tmp_path


def test_every_run_is_a_row(sweep):
    collect_command([str(sweep)])
    found = rows(sweep / "sweep.csv")
    assert [(row["seed_everything"], row["inner_steps"]) for row in found] == [
        (str(seed), str(steps)) for seed in range(3) for steps in (1, 5)
    ]
    assert {row["state"] for row in found} == {"finished"}
    for row in found:
        results = json.loads(
            (
                sweep / f"seed_everything={row['seed_everything']},inner_steps={row['inner_steps']}" / "results.json"
            ).read_text()
        )
        for metric in ("accuracy", "loss"):
            assert float(row[metric]) == results["metrics"][metric]["mean"]
            assert float(row[f"{metric}_ci95"]) == results["metrics"][metric]["ci95"]


def test_over_seeds(sweep):
    collect_command([str(sweep)])
    first, second = rows(sweep / "sweep-over-seeds.csv")
    assert (first["inner_steps"], second["inner_steps"]) == ("1", "5")
    assert (first["runs"], first["finished"]) == ("3", "3")
    assert float(first["accuracy"]) == pytest.approx(0.6)
    assert float(first["accuracy_ci95_over_seeds"]) == pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-5)
    assert first["difference_to_first"] == ""
    # the seeds differ by 0.1 from each other, the settings by 0.02 at every seed
    assert float(second["difference_to_first"]) == pytest.approx(0.02)
    assert float(second["difference_ci95"]) == pytest.approx(0, abs=1e-9)
    assert second["difference_over"] == "3 seeds"


def test_difference_of_single_runs_is_over_episodes(tmp_path):
    write_run(tmp_path / "config=glyphs-protonet", [0.5, 0.7, 0.9, 0.8])
    write_run(tmp_path / "config=glyphs-maml", [0.4, 0.6, 0.9, 0.8])
    runs = collect(tmp_path)
    difference, over = compare([runs[0]], [runs[1]], "accuracy")
    assert over == "4 episodes"
    assert difference.mean == pytest.approx(-0.05)
    assert difference.ci95 == pytest.approx(1.96 * torch.tensor([0.1, 0.1, 0, 0]).std().item() / 2)


def test_no_difference_between_other_episodes(tmp_path):
    write_run(tmp_path / "shots=1", [0.5, 0.7])
    write_run(tmp_path / "shots=5", [0.8, 0.9], shots=5)
    _, second = over_seeds(collect(tmp_path), "accuracy")
    assert second.over == "other episodes"
    assert all(map(math.isnan, second.difference))
    assert second.mean.mean == pytest.approx(0.85)


def test_no_difference_between_other_seeds(tmp_path):
    write_run(tmp_path / "shots=1,seed_everything=0", [0.5, 0.7])
    write_run(tmp_path / "shots=5,seed_everything=1", [0.8, 0.9])
    assert over_seeds(collect(tmp_path), "accuracy")[1].over == "no runs of the same seed"


def test_validated_runs_are_not_mixed_with_tested_ones(tmp_path):
    write_run(tmp_path / "seed_everything=0", [0.5, 0.7])
    write_run(tmp_path / "seed_everything=1", [0.9, 0.9], split="val")
    (row,) = over_seeds(collect(tmp_path), "accuracy")
    assert (row.runs, row.finished, row.mean.mean) == (2, 1, pytest.approx(0.6))


def test_unfinished_runs_are_listed(tmp_path, capsys):
    names = ["done", "trained", "stopped", "begun", "died", "damaged", "waits"]
    folders = {name: tmp_path / f"x={name}" for name in names}
    tasks = tuple(Task(folder.name, folder, "1", folder / "log") for folder in folders.values())
    Job("metalit.cluster.Local", "1", tmp_path, tasks, {}).write(tmp_path)
    write_run(folders["done"], [0.5, 0.7])
    for name in ("trained", "stopped"):
        (folders[name] / "checkpoints").mkdir(parents=True)
        (folders[name] / "checkpoints" / "last.ckpt").touch()
    (folders["trained"] / "job.exit").write_text("0\n")
    folders["begun"].mkdir()
    folders["died"].mkdir()
    (folders["died"] / "job.exit").write_text("1\n")
    folders["damaged"].mkdir()
    (folders["damaged"] / "results.json").write_text("{")
    collect_command([str(tmp_path)])
    assert {row["x"]: row["state"] for row in rows(tmp_path / "sweep.csv")} == {
        "done": "finished",
        "trained": "trained, not tested",
        "stopped": "training or stopped",
        "begun": "no checkpoint yet",
        "died": "ended with exit code 1",
        "damaged": "results.json is damaged",
        "waits": "not started",
    }
    out = capsys.readouterr().out
    assert all(name in out for name in names)
    assert "1 of 7 runs have results" in out


@pytest.mark.parametrize("damage", ["{}", "[]", '{"a": 1}', "half a fi"])
def test_a_damaged_file_of_one_run_spoils_no_other(damage, sweep):
    (sweep / "seed_everything=0,inner_steps=1" / "results.json").write_text(damage)
    collect_command([str(sweep)])
    states = [row["state"] for row in rows(sweep / "sweep.csv")]
    assert sorted(states) == [*["finished"] * 5, "results.json is damaged"]


def test_a_damaged_exit_code_says_nothing(tmp_path):
    write_run(tmp_path / "seed=1", [0.5, 0.6])
    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / "config.yaml").touch()
    (tmp_path / "seed=0" / "job.exit").write_text("abc\n")
    assert [run.state for run in collect(tmp_path)] == ["no checkpoint yet", "finished"]


def test_nothing_finished_yet(tmp_path, capsys):
    (tmp_path / "seed_everything=0").mkdir()
    (tmp_path / "seed_everything=0" / "config.yaml").touch()
    collect_command([str(tmp_path)])
    assert "0 of 1 runs have results" in capsys.readouterr().out
    assert len(rows(tmp_path / "sweep.csv")) == 1


def test_runs_started_by_hand_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("seed_everything=10", "seed_everything=2", "other"):
        write_run(tmp_path / name, [0.5, 0.7])
    assert [run.folder.name for run in collect(tmp_path)] == [
        "other",
        "seed_everything=2",
        "seed_everything=10",
    ]
    assert collect(tmp_path)[0].overrides == {"run": "other"}


def test_a_value_that_is_no_number_is_no_result(tmp_path):
    write_run(tmp_path / "seed_everything=0", [math.nan, math.nan])
    write_run(tmp_path / "seed_everything=1", [0.5, 0.7])
    (row,) = over_seeds(collect(tmp_path), "accuracy")
    assert (row.runs, row.finished, row.mean.mean) == (2, 1, pytest.approx(0.6))


def test_moved_sweep(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    write_run(old / "shots=1", [0.5, 0.7])
    Job("metalit.cluster.Local", "1", old, (Task("shots=1", old / "shots=1", "1", old / "log"),), {}).write(old)
    old.rename(new)
    (run,) = collect(new)
    assert run.state == "finished"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "folder: not given"),
        (["nowhere"], "folder: there is no folder nowhere"),
        (["."], "folder: . has no runs"),
        (["--zzz"], "zzz: collect has no such option"),
    ],
)
def test_mistake(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert complaint(capsys, lambda: main(["collect", *args])).startswith(words)
