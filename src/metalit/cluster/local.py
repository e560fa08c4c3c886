"""A job without SLURM: its script in processes of this machine that outlive the terminal."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metalit.cluster.base import LOGS, SCRIPT, Cluster, Job, State, exit_code
from metalit.errors import UserError, at_least
from metalit.exit_codes import STOPPED_EARLY
from metalit.locks import lock_while_open

LOCK = "job.alive"  # locked as long as any process of the job lives
PATIENCE = 30.0  # seconds that a run has to save before it is killed
# Runs the tasks, $2 of them at a time, and each again as long as it is stopped early, as SLURM requeues a job. SIGTERM
# ends all that would start a task, while the tasks themselves save.
SUPERVISOR = f"""
export script=$1 job=$$
run() {{
    until bash "$script" "$1" >>"${{script%/*}}/{LOGS}/$job${{1:+_$1}}.log" 2>&1 </dev/null
        (($? != {STOPPED_EARLY})); do :; done
}}
export -f run
printf '%s\\0' "${{@:3}}" | xargs -0 -n 1 -P "$2" bash -c 'run "$1"' bash
"""


@dataclass(frozen=True, kw_only=True)
class Local(Cluster):
    """This machine.

    Args:
        parallel: number of runs of a sweep that run at the same time.
        setup: lines of shell that come first: a virtual environment, variables.
        python: command that runs Python; if not given, the full path of the Python that submits.
    """

    task: ClassVar[str] = "$1"

    parallel: int = 1
    setup: Sequence[str] = ()
    python: str | None = None

    def __post_init__(self) -> None:
        """Check the values that types cannot express."""
        at_least(1, parallel=self.parallel)

    def apply_to_trainer(self, trainer: Any) -> None:
        """Change nothing: here the trainer starts its processes itself."""

    def check(self) -> None:
        """Check nothing: no other program is needed."""

    def start(self, folder: Path, tasks: int | None) -> str:
        """Start a supervisor in its own session; its process id is the job's id and the id of its process group."""
        numbers = [""] if tasks is None else [str(number) for number in range(tasks)]
        with (folder / LOCK).open("w") as lock, (folder / LOGS / "supervisor.log").open("ab") as log:
            lock_while_open(lock)  # raises an error while a process of an earlier job in this folder is alive
            process = subprocess.Popen(
                ["bash", "-c", SUPERVISOR, "bash", str(folder / SCRIPT), str(self.parallel), *numbers],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],  # the children inherit it
                start_new_session=True,  # closing the terminal does not end the job; cancel can signal the whole group
            )
        process.returncode = 0  # it outlives this process on purpose: without a return code Popen would warn about that
        return str(process.pid)

    @staticmethod
    def states(job: Job) -> list[State]:
        """Return the states from the logs, the exit codes, and whether any process of the job lives."""
        alive = is_alive(job)
        states = []
        for task in job.tasks:
            # Stopped early in a job that lives: the supervisor is about to start it again.
            if alive and exit_code(task.folder) in (None, STOPPED_EARLY):
                states.append(State("RUNNING" if task.log.exists() else "PENDING", ended=False))
            else:
                states.append(task.final_state("CANCELLED"))
        return states

    @staticmethod
    def cancel(job: Job) -> None:
        """Signal all processes of the job to end, and kill those that do not; refuse one run of a sweep."""
        group, _, number = job.id.partition("_")
        if number:
            raise UserError(
                f"{job.tasks[0].folder} is one run of a sweep, which here is cancelled as a whole: cancel {job.folder}"
            )
        for number_of_signal in (signal.SIGTERM, signal.SIGKILL):
            # Checked before each signal: once the job has ended, its number may belong to a process group of another
            # program.
            if is_alive(job):
                os.killpg(int(group), number_of_signal)
            end = time.monotonic() + PATIENCE
            while is_alive(job) and time.monotonic() < end:
                time.sleep(0.05)


def is_alive(job: Job) -> bool:
    """Whether any process of the job is alive; refuse to answer for another machine.

    The processes hold a lock; a process id would not do, since the system may have given it to another process.
    """
    host = job.about.get("host", socket.gethostname())
    if host != socket.gethostname():
        raise UserError(f"job {job.id} runs on the machine {host}: ask there")
    path = job.folder / LOCK
    if not path.exists():
        return False
    with path.open("r+") as lock:
        try:
            lock_while_open(lock)
        except BlockingIOError:
            return True
    return False
