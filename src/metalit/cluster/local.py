"""The same path without SLURM: the job's script in processes of this machine that outlive the terminal."""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metalit.cluster import supervisor
from metalit.cluster.base import SCRIPT, Cluster, Job, State, state_from_exit_code
from metalit.errors import UserError, at_least
from metalit.locks import lock_while_open
from metalit.runs.preemption import STOPPED_EARLY

PATIENCE = 30.0  # seconds that a run has for saving before it is killed


@dataclass(frozen=True, kw_only=True)
class Local(Cluster):
    """This machine.

    Args:
        parallel: how many runs of a sweep run at a time.
        setup: lines of shell that come first: a virtual environment, variables.
        python: command that runs Python; if not given, the Python that submits, by its full path.
    """

    task: ClassVar[str] = "$1"

    parallel: int = 1
    setup: Sequence[str] = ()
    python: str | None = None

    def __post_init__(self) -> None:
        """Check what types do not tell."""
        at_least(1, parallel=self.parallel)

    def settle(self, trainer: Any) -> None:
        """Leave everything as it is: here the trainer starts its processes itself."""

    def header(self, name: str, logs: Path, tasks: int | None) -> list[str]:
        """Return nothing: there is nobody to read it."""
        return []

    def launcher(self) -> str:
        """Return nothing."""
        return ""

    def check(self) -> None:
        """Refuse a system without the processes and locks that this needs.

        Raises:
            ValueError: it is Windows.
        """
        if not hasattr(os, "posix_spawn"):
            raise UserError("cluster is Local, which needs Linux or macOS; run the command without submit")

    def start(self, folder: Path, tasks: int | None) -> str:
        """Start a supervisor in a session of its own; its number is the job's id, and that of its process group."""
        lock = os.open(folder / supervisor.LOCK, os.O_RDWR | os.O_CREAT)
        try:
            lock_while_open(lock)
            (folder / supervisor.CANCELLED).unlink(missing_ok=True)
            os.set_inheritable(lock, True)  # held for as long as a process of the job lives
            numbers = ["-"] if tasks is None else [str(number) for number in range(tasks)]
            arguments = [str(folder / SCRIPT), str(lock), str(self.parallel), *numbers]
            # isolated: the standard library is all it needs, and what it may import
            command = [sys.executable, "-I", str(Path(supervisor.__file__)), *arguments]
            out = str(folder / "logs" / "supervisor.log")
            redirected = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ]
            return str(os.posix_spawn(sys.executable, command, os.environ, file_actions=redirected, setsid=True))
        finally:
            os.close(lock)

    def log(self, folder: Path, job_id: str, task: int | None) -> Path:
        """Return the file that the supervisor writes."""
        return supervisor.log_file(folder, int(job_id), "-" if task is None else str(task))

    @staticmethod
    def states(job: Job) -> list[State]:
        """Return the states from the logs and exit codes, and from whether any process of the job lives."""
        alive = is_alive(job)
        return [state(task.exit_code(), started=task.log.exists(), alive=alive) for task in job.tasks]

    @staticmethod
    def cancel(job: Job) -> None:
        """Ask all processes to end, and kill them if they do not.

        Raises:
            ValueError: it is one run of a sweep.
        """
        group, _, number = job.id.partition("_")
        if number:
            raise UserError(
                f"{job.tasks[0].folder} is one run of a sweep, which here is cancelled as a whole: cancel {job.folder}"
            )
        (job.folder / supervisor.CANCELLED).touch()
        for number_of_signal, seconds in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
            if is_alive(job):
                os.killpg(int(group), number_of_signal)
            end = time.monotonic() + seconds
            while is_alive(job) and time.monotonic() < end:
                time.sleep(0.05)


def state(code: int | None, *, started: bool, alive: bool) -> State:
    """Return how a task is.

    Args:
        code: exit code of its last start, if that has ended.
        started: whether it was ever started.
        alive: whether the job is.
    """
    if alive and code in (None, STOPPED_EARLY):
        return State("RUNNING" if started else "PENDING", over=False)
    return state_from_exit_code(code, "CANCELLED")


def is_alive(job: Job) -> bool:
    """Whether any process of the job lives: they hold a lock, whereas a number may be another process's by now.

    Raises:
        ValueError: it is on another machine.
    """
    host = job.about["host"]
    if host != socket.gethostname():
        raise UserError(f"job {job.id} runs on the machine {host}: ask there")
    path = job.folder / supervisor.LOCK
    if not path.exists():
        return False
    with path.open("r+") as lock:
        try:
            lock_while_open(lock)
        except BlockingIOError:
            return True
    return False
