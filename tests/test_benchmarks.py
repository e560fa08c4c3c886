"""Every script in benchmarks/ runs, in its quick mode, and measures something."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from metalit.learn2learn_compat import INSTALL

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
OF_ACCURACY = ("methods.py",)  # measures no speed, so it ends with no ratio
NEED_LEARN2LEARN = ("stream_throughput.py",)


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


@pytest.mark.parametrize(
    "script", [each for each in SCRIPTS if each.name not in OF_ACCURACY], ids=lambda script: script.name
)
def test_a_benchmark_runs(script, tmp_path):
    if script.name in NEED_LEARN2LEARN and find_spec("learn2learn") is None:
        pytest.skip(INSTALL)
    *_, ratio = run(script, tmp_path).strip().splitlines()
    median, low, high = map(float, re.findall(r"[\d.]+", ratio.replace(",", ""))[-3:])
    assert 0 < low <= median <= high


def test_all_methods_become_one_table(tmp_path):
    page = (ROOT / "docs" / "results.md").read_text()
    table = [
        line for line in run(ROOT / "benchmarks" / "methods.py", tmp_path).splitlines() if line[:1] == "|"
    ]
    assert (ROOT / "docs" / "results.md").read_text() == page
    head, _, maml, fomaml = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert head[:4] == ["method", "before adaptation", "after 1 step", "after 10 steps"]
    assert ("`maml`" in maml[0], "`fomaml`" in fomaml[0], maml[4], maml[5]) == (True, True, "20", "–")
    assert len(re.findall(r"[+-]\d\.\d{4} ± \d\.\d{4}", fomaml[5])) == 2


def test_every_benchmark_is_described():
    page = (ROOT / "benchmarks" / "README.md").read_text()
    assert SCRIPTS
    assert [script.name for script in SCRIPTS if f"`{script.name}`" not in page] == []
