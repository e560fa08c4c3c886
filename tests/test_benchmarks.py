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
NEED_LEARN2LEARN = ("stream_throughput.py",)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_benchmark_runs(script, tmp_path):
    if script.name in NEED_LEARN2LEARN and find_spec("learn2learn") is None:
        pytest.skip(INSTALL)
    done = subprocess.run(
        [sys.executable, str(script), "--quick"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, ratio = done.stdout.strip().splitlines()
    median, low, high = map(float, re.findall(r"[\d.]+", ratio.replace(",", ""))[-3:])
    assert 0 < low <= median <= high
    assert not list(tmp_path.iterdir()), "a benchmark must leave nothing behind"


def test_every_benchmark_is_described():
    page = (ROOT / "benchmarks" / "README.md").read_text()
    assert SCRIPTS
    assert [script.name for script in SCRIPTS if f"`{script.name}`" not in page] == []
