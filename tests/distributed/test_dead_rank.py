"""When one of two ranks is killed, the other ends within a minute, with an exit code that is not 0."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from commands import changed, maml, write_yaml

HERE = Path(__file__).parent
PATIENCE = 60  # seconds within which the other rank has to end
PR_SET_CHILD_SUBREAPER = 36
LAUNCHERS = {
    "lightning": ["-m", "metalit"],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "metalit"],
}


@contextmanager
def adopting_orphans():
    """Have a process whose parent has died become a child of this one, so that its exit code can be had."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def wait_for(condition, seconds, what):
    """Return the first result of a function, asked again and again, that is not None."""
    end = time.monotonic() + seconds
    while (result := condition()) is None:
        assert time.monotonic() < end, f"{what} after {seconds} seconds"
        time.sleep(0.05)
    return result


def exit_code(child):
    """Return a child's exit code, or None while it lives."""
    number, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


@pytest.fixture
def two_ranks(tmp_path):
    """A function that starts a training without end by two processes, and returns the launcher and their numbers."""
    started = []

    def start(launcher, hangs):
        announcer = {
            "class_path": "announcer.Announcer",
            "init_args": {"folder": str(tmp_path), "hangs": hangs},
        }
        changes = {
            "callbacks": [announcer], "accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_steps": -1,
            "max_epochs": -1, "logger": False,
        }  # fmt: skip
        settings = changed(maml(), {f"trainer.{name}": value for name, value in changes.items()})
        config = write_yaml(tmp_path / "c.yaml", settings)
        paths = [HERE.parents[1] / "src", HERE]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *LAUNCHERS[launcher], "fit", "--config", config, "--run_dir", "run"]
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path)
        started.append(process)
        files = [tmp_path / "rank0", tmp_path / "rank1"]

        def numbers():
            assert process.poll() is None, (tmp_path / "log").read_text()
            return [int(file.read_text()) for file in files] if all(file.exists() for file in files) else None

        return process, wait_for(numbers, 120, "the ranks do not train")

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(
    ("launcher", "killed", "hangs"),
    [
        ("lightning", 0, True),
        ("lightning", 1, False),
        ("lightning", 0, False),
        ("lightning", 1, True),
        ("torchrun", 0, True),
        ("torchrun", 1, False),
    ],
)
@pytest.mark.slow
def test_the_other_rank_ends(launcher, killed, hangs, two_ranks, tmp_path):
    with adopting_orphans():
        process, ranks = two_ranks(launcher, 1 - killed if hangs else None)
        killed_process, other = ranks[killed], ranks[1 - killed]
        os.kill(killed_process, signal.SIGKILL)
        if killed_process == process.pid:  # the first rank is Lightning's launcher, and the other now an orphan
            process.wait()
            code = wait_for(lambda: exit_code(other), PATIENCE, "the other rank lives")
        else:
            code = process.wait(PATIENCE)
    assert code != 0
    # a launcher may report before the last of its ranks is gone
    wait_for(lambda: None if Path(f"/proc/{other}").exists() else True, PATIENCE, "the other rank lives")
