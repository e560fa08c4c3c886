"""A job without SLURM: its script in processes of this machine that outlive the terminal."""

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

PATIENCE = 30.0  # seconds that a run has to save before it is killed


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
        """Check the values that types cannot express.

        Raises:
            SettingError: ``parallel`` is below 1.
        """
        at_least(1, parallel=self.parallel)

    def settle(self, trainer: Any) -> None:
        """Change nothing: here the trainer starts its processes itself."""

    def header(self, name: str, logs: Path, tasks: int | None) -> list[str]:
        """Return no lines: there is no scheduler to read them."""
        return []

    def launcher(self) -> str:
        """Return an empty prefix."""
        return ""

    def check(self) -> None:
        """Refuse a system without POSIX processes and locks.

        Raises:
            UserError: the system is Windows.
        """
        if not hasattr(os, "posix_spawn"):
            raise UserError("cluster is Local, which needs Linux or macOS; run the command without submit")

    def start(self, folder: Path, tasks: int | None) -> str:
        """Start a supervisor in its own session; its process id is the job's id and the id of its process group.

        Raises:
            BlockingIOError: a process of an earlier job in this folder is still alive.
        """
        lock = os.open(folder / supervisor.LOCK, os.O_RDWR | os.O_CREAT)
        try:
            lock_while_open(lock)
            (folder / supervisor.CANCELLED).unlink(missing_ok=True)
            os.set_inheritable(lock, True)  # locked as long as any process of the job lives
            numbers = ["-"] if tasks is None else [str(number) for number in range(tasks)]
            arguments = [str(folder / SCRIPT), str(lock), str(self.parallel), *numbers]
            # -I, isolated: modules of the working directory cannot shadow the standard library, which is all it needs.
            command = [sys.executable, "-I", str(Path(supervisor.__file__)), *arguments]
            out = str(folder / "logs" / "supervisor.log")
            redirected = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ]
            # setsid: a new session, so that closing the terminal does not end the job, and cancel can signal the whole
            # group.
            return str(os.posix_spawn(sys.executable, command, os.environ, file_actions=redirected, setsid=True))
        finally:
            # The lock belongs to the open file, which the supervisor and its children have inherited.
            os.close(lock)

    def log(self, folder: Path, job_id: str, task: int | None) -> Path:
        """Return the file to which the supervisor writes the task's output."""
        return supervisor.log_file(folder, int(job_id), "-" if task is None else str(task))

    @staticmethod
    def states(job: Job) -> list[State]:
        """Return the states from the logs, the exit codes, and whether any process of the job lives."""
        alive = is_alive(job)
        return [state(task.exit_code(), started=task.log.exists(), alive=alive) for task in job.tasks]

    @staticmethod
    def cancel(job: Job) -> None:
        """Signal all processes of the job to end, and kill those that do not.

        Raises:
            UserError: the job is one run of a sweep, or runs on another machine.
        """
        group, _, number = job.id.partition("_")
        if number:
            raise UserError(
                f"{job.tasks[0].folder} is one run of a sweep, which here is cancelled as a whole: cancel {job.folder}"
            )
        # Before the signal: a task that has just been stopped early would miss it and be started again.
        (job.folder / supervisor.CANCELLED).touch()
        for number_of_signal, seconds in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
            # Checked before each signal: once the job has ended, its number may belong to a process group of another
            # program.
            if is_alive(job):
                os.killpg(int(group), number_of_signal)
            end = time.monotonic() + seconds
            while is_alive(job) and time.monotonic() < end:
                time.sleep(0.05)


def state(code: int | None, *, started: bool, alive: bool) -> State:
    """Return the state of a task.

    Args:
        code: exit code of its last start, or None if that has not ended.
        started: whether the task was ever started.
        alive: whether the job is alive.
    """
    # Stopped early in a job that lives: the supervisor is about to start it again.
    if alive and code in (None, STOPPED_EARLY):
        return State("RUNNING" if started else "PENDING", over=False)
    return state_from_exit_code(code, "CANCELLED")


def is_alive(job: Job) -> bool:
    """Whether any process of the job is alive.

    The processes hold a lock; a process id would not do, since the system may have given it to another process.

    Raises:
        UserError: the job is on another machine.
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
