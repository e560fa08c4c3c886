"""Runs the tasks of a local job, some at a time, each again and again as long as it was stopped early.

A program of its own that uses nothing but the standard library: ``supervisor.py SCRIPT LOCK PARALLEL TASK...``.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOCK = "job.alive"
CANCELLED = "job.cancelled"  # a file, which whoever cancels makes first: a signal may come after the task's end
STOPPED_EARLY = 75  # as in metalit.runs.preemption, which cannot be imported here


def log_file(folder: Path, job_id: int, task: str) -> Path:
    """Return the log of a task; of the only one if it is ``-``."""
    return folder / "logs" / (f"{job_id}.log" if task == "-" else f"{job_id}_{task}.log")


def run(script: Path, lock: int, task: str) -> None:
    """Run one task to its end.

    Args:
        script: what to run.
        lock: file that is locked as long as a process has it open; this one's children have it too.
        task: its argument.
    """
    code = STOPPED_EARLY
    while code == STOPPED_EARLY and not (script.parent / CANCELLED).exists():
        with log_file(script.parent, os.getpid(), task).open("ab") as log:
            code = subprocess.run(
                ["bash", str(script), task],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                check=False,
            ).returncode


def main(script: str, lock: str, parallel: str, tasks: Sequence[str]) -> None:
    """Run all tasks."""
    cancelled = Path(script).parent / CANCELLED
    signal.signal(signal.SIGTERM, lambda *_: cancelled.touch())  # the tasks, which are told too, may save
    with ThreadPoolExecutor(int(parallel)) as pool:
        futures = [pool.submit(run, Path(script), int(lock), task) for task in tasks]
    for future in futures:
        future.result()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
