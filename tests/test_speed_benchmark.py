"""The measurement of speed (benchmarks/speed): who computes the same, what a ratio is, who is missing, what is kept."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from cases import CASES
from metalit.kernels import missing
from metalit.learn2learn_compat import INSTALL

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def part(name):
    return importlib.import_module(f"benchmarks.speed.{name}")


def smoke(**settings):
    return part("race").Setting(smoke=True, rounds=1, **settings)


def fixed(name, seconds, loss=None, **options):
    """Return a contender whose turns take the given seconds, one after the other."""
    race, turns = part("race"), iter(seconds)
    step = None if loss is None else (lambda: loss)
    return race.Contender(name, lambda setting: race.Prepared(lambda: next(turns), step), **options)


def absent(setting):
    raise ImportError("No module named 'peer'")


def broken(setting):
    raise RuntimeError("does not run on this torch")


def test_a_ratio_is_the_median_over_rounds_and_not_one_of_medians():
    found = part("statistics").ratios([1.0, 10.0, 100.0], [1.0, 20.0, 50.0])
    assert (found.median, found.lower, found.upper) == (1.0, 0.75, 1.5)


def test_contenders_take_turns_until_the_time_is_up_but_three_times_at_least():
    take_turns, order = part("race").take_turns, []
    for seconds, rounds in ((0.0, 3), (60.0, 7)):
        times = {"a": [], "b": []}
        order.clear()
        take_turns({name: lambda name=name: order.append(name) or 1.0 for name in times}, times, 7, seconds)
        assert order == ["a", "b"] * rounds
        assert times == {"a": [1.0] * rounds, "b": [1.0] * rounds}


def test_a_missing_peer_is_named_and_the_others_go_on():
    race, results, tables = part("race"), part("results"), part("tables")
    contenders = [
        fixed("metalit", [1.0, 1.0, 1.0]),
        race.Contender("peer", absent, optional=True),
        race.Contender("old", broken, optional=True),
        fixed("other", [2.0, 3.0, 4.0]),
    ]
    case = race.Case("step/x", "step", contenders)
    result = results.Result.of(case, race.race(case, race.Setting(rounds=3)), 1.0)
    assert result.found.left_out == {
        "peer": "No module named 'peer'",
        "old": "RuntimeError: does not run on this torch",
    }
    assert [(ratio.one, ratio.other, ratio.median) for ratio in result.ratios] == [("other", "metalit", 3.0)]
    text = tables.table(result)
    assert "peer left out: No module named 'peer'" in text
    assert "| other | 3,000 (2,500 to 3,500) ms | 3.00 (2.50 to 3.50) × metalit |" in text


def test_metalit_itself_may_not_break():
    race = part("race")
    case = race.Case("step/x", "step", [race.Contender("metalit", broken)])
    with pytest.raises(RuntimeError, match="does not run"):
        race.race(case, race.Setting(rounds=1))


@pytest.mark.parametrize(("loss", "refused"), [(1.00001, False), (1.01, True), (float("nan"), True)])
def test_contenders_that_compute_something_else_are_no_race(loss, refused):
    race = part("race")
    case = race.Case("step/x", "step", [fixed("metalit", [1.0], 1.0), fixed("peer", [1.0], loss)])
    if not refused:
        assert race.race(case, race.Setting(rounds=1)).losses == {"metalit": 1.0, "peer": loss}
        return
    with pytest.raises(ArithmeticError, match="the first loss of peer"):
        race.race(case, race.Setting(rounds=1))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", ["sine", "omniglot-pool", "omniglot-stride"])
def test_metalit_a_loop_and_learn2learn_have_the_same_meta_loss(name, order):
    problem, setting = part("problems").PROBLEMS[name], smoke(dtype=torch.float64)
    own = part("own")
    makers = [own.maml, own.looped_maml] + [part("peers.learn2learn").maml] * (find_spec("learn2learn") is not None)
    expected, *others = [float(make(problem, order, 2)(setting)()) for make in makers]
    assert others == pytest.approx([expected] * len(others), rel=1e-10)


def test_prototypical_networks_have_the_same_loss_in_float32():
    if find_spec("learn2learn") is None:
        pytest.skip(INSTALL)
    problem, own = part("problems").EMBEDDED, part("own")
    makers = [own.protonet, own.looped_protonet, part("peers.learn2learn").protonet]
    expected, *others = [float(make(problem)(smoke())()) for make in makers]
    assert others == pytest.approx([expected] * 2, rel=1e-5)


def test_limit_counts_the_passes_of_every_convolution(monkeypatch):
    convolutions, seen = part("convolutions"), []
    monkeypatch.setattr(convolutions, "seconds_of_one", lambda each, setting: seen.append(each.shape) or 1.0)
    problem = replace(part("problems").PROBLEMS["omniglot-pool"], width=4, tasks=2, queries=3)
    setting = part("race").Setting()
    for order, inner in ((1, 3), (2, 9)):
        seen.clear()
        assert convolutions.limit(problem, order, 5)(setting).turn() == 4 * (3 + 5 * inner)
        assert [tuple(shape) for shape in seen[:2]] == [(2 * 5 * 3, 1, 28, 28), (2 * 5 * 3, 4, 14, 14)]
        assert tuple(seen[4]) == (2 * 5 * 1, 1, 28, 28)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux alone")
def test_memory_is_what_a_step_takes_at_its_peak():
    memory, race = part("memory"), part("race")
    contender = race.Contender("x", lambda setting: race.Prepared(lambda: 0.0, lambda: torch.ones(2**24).sum()))
    assert memory.mib_of_step(contender, race.Setting()) == pytest.approx(64, abs=8)


def test_every_method_of_the_table_is_measured():
    found = [each.name.removesuffix(", sinusoids") for case in part("methods").cases() for each in case.contenders]
    assert set(found) == set(CASES)
    assert len(found) - len(CASES) == found.count("MAML") - 1  # MAML alone stands in every race


def test_stored_figures_are_read_as_they_were_and_unfinished_ones_refused(tmp_path):
    race, results = part("race"), part("results")
    case = race.Case("step/x", "step", [fixed("metalit", [1.0, 2.0], 0.5), fixed("peer", [2.0, 6.0], 0.5)])
    result, path = results.Result.of(case, race.race(case, race.Setting(rounds=2)), 3.0), tmp_path / "speed.json"
    results.store(path, {"date": "today"}, [result], complete=True)
    stored = json.loads(path.read_text())
    assert stored.keys() == {"machine", "complete", "cases"}
    assert stored["cases"][0]["found"]["seconds"] == {"metalit": [1.0, 2.0], "peer": [2.0, 6.0]}
    assert results.load(path) == ({"date": "today"}, [result])
    results.store(path, {}, [result], complete=False)
    with pytest.raises(ValueError, match="did not finish"):
        results.load(path)


def test_a_run_is_recorded_on_the_page(tmp_path, monkeypatch):
    race, results, program = part("race"), part("results"), part("__main__")
    page, figure, stored = (tmp_path / name for name in ("speed.md", "speed.png", "speed.json"))
    page.write_text("before\n<!-- table:speed -->\nold\n<!-- /table:speed -->\nafter\n")
    monkeypatch.setattr(program, "PAGE", page)
    monkeypatch.setattr(program, "FIGURE", figure)
    case = race.Case("step/x", "step", [fixed("metalit", [1.0]), fixed("peer", [2.0])])
    failed = results.Result("step/y", "step", failed="RuntimeError: no")
    told = {"date": "today", "commit": "abc", "command": "python", "device": "cpu"}
    found = [results.Result.of(case, race.race(case, race.Setting(rounds=1)), 1.0), failed]
    results.store(stored, told, found, complete=True)
    assert program.main(["--record", str(stored)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- table:speed -->\ntoday, commit abc")
    assert text.endswith("<!-- /table:speed -->\nafter\n")
    assert "2.00 (2.00 to 2.00) × metalit" in text
    assert "`step/y`: failed, RuntimeError: no" in text
    assert "old" not in text
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "nothing"], "there is no case nothing; cases are step/sine"),
        (["--rounds", "0"], "--rounds is 0, but must be above 0"),
        (["--device", "cuda:99"], "there is no cuda:99 here"),
        (["--record", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_mistake_is_one_message(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        part("__main__").main(options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_cases_are_chosen_by_the_beginning_or_a_part_of_their_names():
    select = part("cases").select
    assert {case.name for case in select(["order-1"])} == {case.name for case in select([]) if "/order-1/" in case.name}
    assert [case.name for case in select(["step/mini/order-2"])] == ["step/mini/order-2/steps-5"]
    assert len(select([])) > len(select(["step"])) > len(select(["sine"])) > 0


def test_operations_are_counted_in_one_group_each():
    x = torch.randn(2, 3, 8, 8)
    filters = torch.randn(4, 3, 3, 3)
    found = part("operations").shares(lambda: torch.nn.functional.conv2d(x, filters).clone())
    assert found["convolutions"] > 0
    assert found["copies and fills"] > 0
    assert found["batch norm"] == found["max-pooling"] == 0


@pytest.mark.skipif(missing() is not None, reason=f"no kernels: {missing()}")
def test_operations_of_a_step_by_torch_and_by_the_kernels(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    said = []
    assert part("operations").main(["omniglot-pool", "--tasks", "2", "--smoke"], said.append) == 0
    lines = {cells[1].strip(): cells[2:4] for cells in (line.split("|") for line in said[0].splitlines())}
    assert "ms" not in lines["metalit's kernels"][0]
    assert "ms" in lines["metalit's kernels"][1]
    assert "ms" in lines["batch norm"][0]
    assert "ms" not in lines["batch norm"][1]


def measured(folder, *options):
    """Run the program in a process of its own; return what it says and stores."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--smoke", "--threads", "1", "--out", str(folder), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((folder / "speed.json").read_text())


@pytest.mark.slow  # imports everything twice
def test_it_runs_and_leaves_json_tables_and_a_picture(tmp_path):
    said, stored = measured(tmp_path, "--only", "metric/protonet/5-way")
    assert {path.name for path in tmp_path.iterdir()} == {"speed.json", "speed.md", "speed.png"}
    assert stored["complete"]
    assert {"date", "command", "cpu", "torch", "learn2learn", "jax", "clock", "commit"} <= set(stored["machine"])
    ((case),) = stored["cases"]
    assert not case["failed"]
    assert case["found"]["mib"]["metalit"] > 0
    assert {len(seconds) for seconds in case["found"]["seconds"].values()} == {1}
    assert ("a plain loop", "metalit") in [(ratio["one"], ratio["other"]) for ratio in case["ratios"]]
    assert "| metalit |" in said
    assert "| metalit |" in (tmp_path / "speed.md").read_text()


@pytest.mark.slow
def test_every_case_runs(tmp_path):
    _, stored = measured(tmp_path)
    assert [case["name"] for case in stored["cases"]] == list(part("cases").cases())
    assert not [case for case in stored["cases"] if case["failed"]]
    for case in stored["cases"]:
        assert case["ratios"], case["name"]
        if case["section"] == "methods":
            assert not case["found"]["left_out"]
