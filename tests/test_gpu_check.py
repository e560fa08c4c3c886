"""The check of a GPU (benchmarks/gpu_check) itself, without a GPU: what it would find, it finds, and says."""

import importlib
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from cases import CASES
from metalit.learn2learn_compat import INSTALL

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def part(name):
    return importlib.import_module(f"benchmarks.gpu_check.{name}")


def check(*options, folder):
    """Run the check in this process; return its exit code, its table without the head, and what it stored."""
    lines, path = [], folder / "found.json"
    code = part("__main__").main(["--device", "cpu", "--json", str(path), *options], lines.append)
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return code, table[2:], json.loads(path.read_text())


@pytest.mark.slow
def test_dry_run_passes_and_says_everything(tmp_path):
    path = tmp_path / "found.json"
    sections = ("rows", "precision", "ddp", "resume")
    only = [word for name in ("MAML/sinusoid", *sections) for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--json", str(path), *only],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    stored = json.loads(path.read_text())
    ended = {(r["section"], r.get("variant", "")): r["result"] for r in stored["results"]}
    assert ended == {
        ("rows", "float64"): "pass",
        ("rows", "float32"): "pass",
        ("precision", "bf16-mixed"): "pass",
        ("precision", "16-mixed"): "pass",
        ("ddp", "one rank"): "pass",
        ("resume", ""): "pass",
        ("resume", "on the CPU"): "not run",
    }
    assert stored["complete"]
    assert {"date", "command", "device", "torch", "learn2learn", "commit"} <= set(stored["machine"])
    assert all(f"{name}:" in done.stdout for name in stored["machine"])
    assert sum(line.startswith("| ") for line in done.stdout.splitlines()) == 2 + len(ended)
    assert "6 pass, 0 FAIL, 0 measured, 1 not run" in done.stdout


def test_every_row_of_the_table_is_checked_in_both_precisions():
    checks = part("agreement").checks(part("training").rows(), part("training").Place(CPU))
    found = [(check.row, check.variant) for check in checks if check.section == "rows"]
    expected = {f"{name}/{domain}" for name, case in CASES.items() for domain in case.learning}
    assert sorted(found) == sorted((row, kind) for row in expected for kind in ("float64", "float32"))


@pytest.mark.parametrize("part_of_trace", ["losses", "gradient", "change", "predictions"])
def test_a_device_that_computes_something_else_fails(part_of_trace, tmp_path, monkeypatch):
    agreement, training = part("agreement"), part("training")

    def trace(row, place, dtype):
        values = {name: torch.tensor([1.0, 2.0, 3.0]) for name in training.Trace.__annotations__}
        if place != agreement.CPU:
            values[part_of_trace] = values[part_of_trace] * 1.01
        return training.Trace(**values)

    monkeypatch.setattr(agreement, "trace", trace)
    code, table, stored = check("--only", "MAML/sinusoid", "--only", "rows", folder=tmp_path)
    assert (code, [line[2] for line in table]) == (1, ["FAIL", "FAIL"])
    assert stored["results"][0]["figures"][part_of_trace] == pytest.approx(0.01)


def test_not_a_number_is_no_agreement():
    relative = part("training").relative
    assert relative(torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 1.0])) == torch.inf
    assert relative(torch.tensor([1.0, torch.inf]), torch.tensor([1.0, torch.inf])) == torch.inf


def test_an_error_is_a_failure_and_the_checks_after_it_run():
    plan = part("plan")

    def broken(left):
        raise RuntimeError("device-side assert\nsecond line")

    checks = [
        plan.Check("rows", "A", "", broken),
        plan.Check("rows", "B", "", lambda left: plan.Found({"x": 1.0}, True)),
        plan.Check("memory", "C", "", lambda left: plan.Found({"MiB": 1.0})),
    ]
    first, *others = plan.run(checks, 10)
    assert (first.result, first.note) == ("FAIL", "RuntimeError: device-side assert")
    assert "second line" in first.trace
    assert [other.result for other in others] == ["pass", "measured"]


def test_what_does_not_fit_is_said_and_the_other_sections_have_their_time():
    plan = part("plan")
    checks = [
        plan.Check("rows", "A", "", lambda left: time.sleep(30)),
        plan.Check("rows", "B", "", lambda left: plan.Found({}, True)),
        plan.Check("speed", "C", "", lambda left: plan.Found({}, True)),
    ]
    start = time.monotonic()
    results = list(plan.run(checks, 0.5))
    assert time.monotonic() - start < 5
    assert [result.result for result in results] == ["not run", "not run", "pass"]
    assert [result.note for result in results] == [
        "broken off: no time left for section rows",
        "no time left for section rows",
        "",
    ]


def test_without_time_every_line_is_there(tmp_path):
    code, table, stored = check("--minutes", "1e-6", "--only", "MAML", folder=tmp_path)
    assert {line[2] for line in table} == {"not run"}
    assert {line[0] for line in table} == set(part("plan").SHARES)
    assert len(stored["results"]) == len(table)
    assert code == 0


def test_a_stop_loses_nothing(tmp_path, monkeypatch):
    plan = part("plan")

    def stopped(checks, seconds):
        yield plan.Result("rows", "A", "", "pass", 1.0, {"x": 1.0})
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        check(folder=tmp_path)
    stored = json.loads((tmp_path / "found.json").read_text())
    assert not stored["complete"]
    assert [result["row"] for result in stored["results"]] == ["A"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "NAML"], "no row or section NAML"),
        (["--minutes", "0"], "must be above 0"),
        (["--device", "gpu"], "gpu is no device"),
        (["--device", "cuda:99"], "there is no cuda:99 here"),
    ],
)
def test_a_mistake_is_one_message(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        check(*options, folder=tmp_path)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["step/omniglot-stride/order-2/steps-5", "metric/protonet/20-way"])
def test_both_sides_of_a_race_compute_the_same(name):
    if find_spec("learn2learn") is None:
        pytest.skip(INSTALL)
    speed, place = part("speed"), part("training").Place(CPU)
    found = speed.check_race(speed.cases()[name], place, 1.0)
    assert found.passed
    assert found.figures["metalit, ms"] > 0
    assert "learn2learn / metalit" in found.figures


def test_a_missing_peer_is_said(monkeypatch):
    speed, place = part("speed"), part("training").Place(CPU)
    learn2learn = importlib.import_module("benchmarks.speed.peers.learn2learn")

    def missing(name):
        raise ImportError(INSTALL)

    monkeypatch.setattr(learn2learn, "import_learn2learn", missing)
    # a race in which nobody else has a loss to compare
    found = speed.check_race(speed.cases()["step/resnet12/order-1/steps-1"], place, 1.0)
    assert found.passed is None
    assert found.figures["learn2learn left out"] == INSTALL


def test_a_race_between_different_steps_fails():
    plan, speed, place = part("plan"), part("speed"), part("training").Place(CPU)
    race = importlib.import_module("benchmarks.speed.race")

    def constant(loss):
        return race.stepping(lambda setting: lambda: loss)

    case = race.Case("x", "x", [race.Contender("one", constant(1.0)), race.Contender("other", constant(2.0))])
    (result,) = plan.run([plan.Check("speed", "x", "", lambda left: speed.check_race(case, place, left))], 10)
    assert result.result == "FAIL"
    assert "the first loss of other is 2" in result.note
