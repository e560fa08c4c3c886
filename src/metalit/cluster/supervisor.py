"""Runs the tasks of a local job, a few at a time, and starts each again as long as it was stopped early.

A program of its own that imports the standard library alone: ``supervisor.py SCRIPT LOCK PARALLEL TASK...``. LOCK is
the descriptor of a file that stays locked as long as any process has it open; the children inherit it. TASK is the
number of a task, or empty for the only task of a job.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOCK = "job.alive"
CANCELLED = "job.cancelled"  # a file, created before the signal is sent: the signal may arrive after a task has ended
STOPPED_EARLY = 75  # as in metalit.runs.preemption, which is not imported: see the module's docstring


def run(script: Path, lock: int, task: str) -> None:
    """Run one task until it ends for good."""
    name = f"{os.getpid()}_{task}" if task else str(os.getpid())
    code = STOPPED_EARLY
    # The exit code asks for another start, as SLURM's requeueing gives it. After a cancellation no start may follow.
    while code == STOPPED_EARLY and not (script.parent / CANCELLED).exists():
        with (script.parent / "logs" / f"{name}.log").open("ab") as log:
            code = subprocess.run(
                ["bash", str(script), task],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                check=False,
            ).returncode


def main(script: Path, lock: int, parallel: int, tasks: Sequence[str]) -> None:
    """Run all tasks, ``parallel`` of them at a time."""
    # Do not exit at SIGTERM: the tasks receive it too, and save.
    signal.signal(signal.SIGTERM, lambda *_: (script.parent / CANCELLED).touch())
    with ThreadPoolExecutor(parallel) as pool:
        # As a list: what a thread has raised is raised when its result is taken, and would be lost otherwise.
        list(pool.map(lambda task: run(script, lock, task), tasks))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
