"""Killed at a random moment and resumed, a run ends as if nothing had happened."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_runs_end_as_undisturbed_ones():
    # four of the six kinds: MAML and MetaGAN without workers, prototypical networks with and without
    program = [sys.executable, Path(__file__).with_name("kill_and_resume.py")]
    options = ["--kills", "1", "--kinds", "0", "2", "3", "4", "--steps", "300", "--every_n_steps", "20"]
    done = subprocess.run([*program, *options], capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"killed after .*: identical", done.stdout)) == 4
    assert done.stdout.endswith("4 of 4 identical\n")
