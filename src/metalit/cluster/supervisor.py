"""Runs the tasks of a local job, a few at a time, and starts each again as long as it was stopped early.

A program of its own that imports the standard library alone: ``supervisor.py SCRIPT LOCK PARALLEL TASK...``.
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


def log_file(folder: Path, job_id: int, task: str) -> Path:
    """Return the log of a task; ``-`` is the only task of a job."""
    return folder / "logs" / (f"{job_id}.log" if task == "-" else f"{job_id}_{task}.log")


def run(script: Path, lock: int, task: str) -> None:
    """Run one task until it ends for good.

    Args:
        script: the job's script.
        lock: descriptor of a file that stays locked as long as any process has it open; the children inherit it.
        task: the script's argument: the number of the task, or ``-``.
    """
    code = STOPPED_EARLY
    # The exit code asks for another start, as SLURM's requeueing gives it. After a cancellation no start may follow.
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
    """Run all tasks.

    Args:
        script: path of the job's script.
        lock: descriptor of the locked file.
        parallel: number of tasks that run at the same time.
        tasks: the script's argument for each task.
    """
    cancelled = Path(script).parent / CANCELLED
    signal.signal(signal.SIGTERM, lambda *_: cancelled.touch())  # do not exit: the tasks receive it too, and save
    with ThreadPoolExecutor(int(parallel)) as pool:
        futures = [pool.submit(run, Path(script), int(lock), task) for task in tasks]
    # Raise what a thread has raised; otherwise it would be lost.
    for future in futures:
        future.result()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
