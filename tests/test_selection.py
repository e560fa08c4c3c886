"""``--algorithm`` runs all rows of an algorithm, and none of another."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cases import CASES
from metalit.algorithms import FOMAML, MAML, MetaLearner
from selection import CONFIGS, PAGES, algorithms, algorithms_of, algorithms_of_value, check_names

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("MAML", {"MAML"}),
        ("FOMAML", {"FOMAML"}),
        ("MAML-glyphs", {"MAML"}),
        ("MAMLPlusPlus/glyphs", {"MAMLPlusPlus"}),
        ("Reptile by Adam", {"Reptile"}),
        ("metalit.algorithms.MAML", {"MAML"}),
        ("a checkpoint of MAML, but the model is another", set()),
        ("glyphs", set()),
        (MAML, {"MAML"}),
        (FOMAML, {"FOMAML"}),
        (MetaLearner, set()),
        (CASES["BaselinePlusPlus"], {"BaselinePlusPlus"}),
        (PAGES / "baseline.md", {"Baseline"}),
        (ROOT / "README.md", set()),
        (CONFIGS / "sinusoid" / "fomaml.yaml", {"FOMAML"}),
        (CONFIGS / "trainer" / "gpu.yaml", set()),
        (SimpleNamespace(experiment="sinusoid/maml.yaml"), {"MAML"}),
        (3, set()),
        (None, set()),
    ],
    ids=repr,
)
def test_what_an_argument_names(value, found):
    assert algorithms_of_value(value) == found


def a_test(file, params=None, mark=()):
    """An item as pytest has them."""
    item = SimpleNamespace(path=ROOT / "tests" / "algorithms" / file)
    item.get_closest_marker = lambda name: SimpleNamespace(args=mark) if mark else None
    if params is not None:
        item.callspec = SimpleNamespace(params=params)
    return item


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (a_test("test_battery.py", {"name": "MAML", "domain": "glyphs"}), {"MAML"}),
        (a_test("test_identities.py", {"one": MAML, "other": FOMAML}), {"MAML", "FOMAML"}),
        (a_test("test_maml_plus_plus.py"), {"MAMLPlusPlus"}),
        (a_test("test_maml_plus_plus.py", {"seed": 1}), {"MAMLPlusPlus"}),
        (a_test("test_maml_plus_plus.py", {"name": "MAML"}), {"MAML"}),
        (a_test("test_anil.py", None, ("ANIL", "BOIL")), {"ANIL", "BOIL"}),
        (a_test("test_identities.py"), set()),
    ],
)
def test_what_a_test_belongs_to(item, found):
    assert algorithms_of(item) == found


def test_files_are_marked_with_algorithms_that_exist(request):
    marks = [item.get_closest_marker("algorithms") for item in request.session.items]
    assert {name for mark in marks if mark for name in mark.args} <= set(algorithms())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("maml", "MAML"), ("ProtoNet", "PrototypicalNetwork"), ("MAML++", "MAML"), ("xyz", "but AN")],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(pytest.UsageError, match=f"no such algorithm.*{nearest}"):
        check_names(["MAML", name])


def collected(*args):
    """The names of the tests that a command would run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *args]
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_all_rows_of_an_algorithm_and_no_other():
    files = [
        "tests/test_golden.py",
        "tests/test_meta_device.py",
        "tests/test_configs.py",
        "tests/test_docs.py",
    ]
    found = collected("--algorithm", "FOMAML", "--algorithm", "MAML", *files)
    rows = {row for row in found if "test_golden" in row or "test_meta_device" in row}
    tests = [
        "tests/test_golden.py::test_losses_are_the_stored_ones",
        "tests/test_meta_device.py::test_training_step_reads_no_value_and_stays_on_the_device",
        "tests/test_meta_device.py::test_evaluation_reads_no_value_and_stays_on_the_device",
    ]
    assert rows == {
        f"{test}[{name}-{domain}]" for test in tests for name in ("MAML", "FOMAML") for domain in CASES[name].learning
    }
    assert "tests/test_docs.py::test_links_resolve[docs/algorithms/fomaml.md]" in found
    assert "tests/test_docs.py::test_links_resolve[docs/algorithms/maml_plus_plus.md]" not in found
    assert "tests/test_configs.py::test_experiment_runs[sinusoid/maml.yaml]" in found
    assert not [row for row in found if "maml_plus_plus" in row or "tmaml" in row]
