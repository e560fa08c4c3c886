"""Killed at a random moment and resumed, a run ends as if nothing had happened."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from runs import kill_and_resume

KINDS = [name for name in kill_and_resume.KINDS if name not in ("maml-2", "metaganmaml-2")]


@pytest.mark.slow
@pytest.mark.timeout(2500)
def test_killed_runs_end_as_undisturbed_ones():
    # all but those with workers that differ in nothing else
    program = [sys.executable, Path(__file__).with_name("kill_and_resume.py")]
    options = ["--kills", "1", "--kinds", *KINDS, "--steps", "150", "--every_n_steps", "20"]
    done = subprocess.run([*program, *options], capture_output=True, text=True, check=False, timeout=2400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"killed after .*, goes on from step \d+, identical", done.stdout)) == len(KINDS)
    assert done.stdout.endswith(f"{len(KINDS)} of {len(KINDS)} identical\n")
