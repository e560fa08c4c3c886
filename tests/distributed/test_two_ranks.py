"""Two processes with half of the tasks each do what one process does with all of them, in float64."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

import metalit
import two_ranks
from metalit.evaluation.results import read_episodes, read_results
from metalit.outcome import Outcome
from two_ranks import BROKEN, JOBS, STEPS, TASKS, MeanAndTheil, do

BROKEN_JOBS = [name for name in JOBS if name.startswith("broken")]
OWN_LOADERS = [name for name in JOBS if name.startswith("own-loader")]
pytestmark = pytest.mark.slow  # all jobs are computed before the first test can look at one
EXACT = [name for name in JOBS if name not in (*BROKEN_JOBS, *OWN_LOADERS, "stopping")]


def asked_for(items):
    """The jobs that tests of this file look at: those of their rows, or all where a test has no row."""
    rows = [getattr(item, "callspec", None) for item in items if item.path == Path(__file__)]
    names = [row and row.params.get("name") for row in rows]
    return list(JOBS) if None in names else sorted({*names})


@pytest.fixture(scope="module")
def two(tmp_path_factory, request):
    """What each of two processes found in the jobs, and the folder they wrote to."""
    folder = tmp_path_factory.mktemp("two")
    paths = [Path(metalit.__file__).parents[1], Path(two_ranks.__file__).parent]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, two_ranks.__file__, str(folder), *asked_for(request.session.items)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)], folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A function that does a job in this process, once; and the folder it writes to."""
    folder = tmp_path_factory.mktemp("one")

    @cache
    def run(name):
        return do(name, folder)

    return run, folder


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-8, equal_nan=True)  # nan: undefined


@pytest.mark.parametrize("name", EXACT)
def test_weights_and_running_statistics_are_the_same(name, one, two):
    expected = one[0](name)["state"]
    first, second = (found[name]["state"] for found in two[0])
    assert_close(first, expected)
    assert all(torch.equal(first[key], second[key]) for key in expected)


@pytest.mark.parametrize("name", [*EXACT, "stopping"])
def test_callbacks_see_the_same_metrics_of_training(name, one, two):
    expected = one[0](name)["logged"]
    first, second = (found[name]["logged"] for found in two[0])
    assert first == second
    assert len(first) == len(expected)  # as many steps
    for found, wanted in zip(first, expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-6)  # accuracies are means in float32


def test_early_stopping_on_a_metric_of_training_stopped_early(one):
    assert 2 < len(one[0]("stopping")["logged"]) < 30


@pytest.mark.parametrize("name", EXACT)
def test_each_task_is_trained_on_once(name, one, two):
    first, second = (found[name] for found in two[0])
    half = TASKS // 2

    def in_turn(noted):
        steps = range(0, STEPS * half, half)
        return [task for step in steps for rank in (first, second) for task in rank[noted][step : step + half]]

    assert in_turn("index") == list(range(STEPS * TASKS))
    expected = one[0](name)["sums"]
    assert in_turn("sums") == pytest.approx(expected, rel=1e-12)
    assert len(set(expected)) == STEPS * TASKS


@pytest.mark.parametrize("name", EXACT)
def test_results_are_the_same(name, one, two):
    one[0](name)
    ours, theirs = one[1] / name, two[1] / name
    found, expected = read_results(theirs), read_results(ours)
    assert found["episodes"] == expected["episodes"] == 5
    for metric, summary in expected["metrics"].items():
        assert found["metrics"][metric] == pytest.approx(summary, rel=1e-8)
    episodes = read_episodes(theirs)
    assert episodes["episode"].tolist() == list(range(5))
    assert_close(episodes, read_episodes(ours))


@pytest.mark.parametrize("name", BROKEN_JOBS)
def test_a_loss_on_one_rank_that_is_not_finite_stops_all_before_the_step(name, one, two):
    for found in (one[0](name), *(rank[name] for rank in two[0])):
        kind = "inf" if "overflow" in name else "nan"
        assert f"meta-loss is {kind} at step 1 (training episodes {BROKEN})" in found["error"]
        assert found["before"].keys() == found["state"].keys()
        assert all(torch.equal(found["before"][key], value) for key, value in found["state"].items())


def test_a_users_own_loader_is_divided_by_rank_share(one, two):
    expected, (first, second) = one[0]("own-loader"), (rank["own-loader"] for rank in two[0])
    assert first["error"] == second["error"] == ""
    assert (first["index"], second["index"], expected["index"]) == ([0, 1], [2, 3], [0, 1, 2, 3])
    for rank in (first, second):
        assert rank["indices"] == list(range(7))


def test_ranks_that_train_on_the_same_tasks_are_refused(one, two):
    for rank in two[0]:
        assert "ranks 0 and 1 both train on episode 0" in rank["own-loader-undivided"]["error"]
        assert "metalit.data.RankShare" in rank["own-loader-undivided"]["error"]
    assert one[0]("own-loader-undivided")["error"] == ""


@pytest.mark.parametrize("name", ["own-loader-undivided", "own-loader-padded"])
def test_episodes_that_come_twice_are_counted_once(name, one, two):
    """Both ranks test all episodes, or one of them a batch that Lightning's sampler repeats."""
    expected = one[0](name) if name == "own-loader-padded" else None
    for rank in two[0]:
        assert rank[name]["indices"] == list(range(5 if expected else 7))
        assert expected is None or rank[name]["loss"] == pytest.approx(expected["loss"], rel=1e-8)


def test_an_objective_over_all_tasks_is_not_the_mean_over_ranks():
    """Else the test above would hold for any objective."""
    losses = torch.tensor([1.0, 2.0, 3.0, 10.0])
    whole, *halves = (MeanAndTheil()(Outcome(part, part)) for part in (losses, losses[:2], losses[2:]))
    assert abs(whole - sum(halves) / 2) > 0.01
