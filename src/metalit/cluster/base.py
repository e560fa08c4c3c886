"""The interface of a cluster, and the record of a job on one."""

import json
import shlex
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar, NamedTuple

from metalit.errors import UserError
from metalit.files import write_text
from metalit.runs.preemption import STOPPED_EARLY

RECORD = "job.json"
SCRIPT = "job.sh"
CONFIG = "job.yaml"
CODE = "code"  # folder with the copy of the code
EXIT_CODE = "job.exit"  # written by the script: without accounting, SLURM soon forgets how a job ended
ENDED_BY_SIGTERM = 128 + signal.SIGTERM  # stopped before it could save, or while it waited for other processes


class Task(NamedTuple):
    """One run of a job.

    Attributes:
        name: distinguishes the run from the others of the job; empty if it is the only one.
        folder: the run folder.
        id: the cluster's identifier of the run.
        log: the file with the run's output.
    """

    name: str
    folder: Path
    id: str
    log: Path

    def exit_code(self) -> int | None:
        """Return the exit code of the last start, or None if it has not ended."""
        path = self.folder / EXIT_CODE
        text = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        return int(text) if text else None


class Job(NamedTuple):
    """Everything submitted in one go.

    Attributes:
        cluster: import path of the cluster's class.
        id: the cluster's identifier of the job.
        folder: the folder with the script and the code.
        tasks: the runs.
        about: facts for the reader: command, time, machine, version of the code.
    """

    cluster: str
    id: str
    folder: Path
    tasks: tuple[Task, ...]
    about: Mapping[str, Any]

    def write(self) -> None:
        """Write the job's record, and the record of each run into the run's own folder."""
        self._write(self.folder)
        for task in self.tasks:
            if task.folder != self.folder:
                # So that status, logs and cancel accept the folder of one run of a sweep.
                self._replace(id=task.id, tasks=(task,))._write(task.folder)

    def _write(self, folder: Path) -> None:
        tasks = [{**task._asdict(), "folder": str(task.folder), "log": str(task.log)} for task in self.tasks]
        record = {
            "cluster": self.cluster,
            "id": self.id,
            **self.about,
            "folder": str(self.folder),
            "tasks": tasks,
        }
        write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")


def read_job(folder: Path) -> Job:
    """Return the job of a run folder, or of a sweep's folder.

    Raises:
        FileNotFoundError: no job was submitted in this folder.
        UserError: the record is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no job ({RECORD} is missing); name the run folder that submit printed")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        tasks = tuple(
            Task(task["name"], Path(task["folder"]), task["id"], Path(task["log"])) for task in record.pop("tasks")
        )
        cluster, job_id, home = (record.pop(key) for key in ("cluster", "id", "folder"))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); look for the job with the cluster's own commands") from error
    return Job(cluster, job_id, Path(home), tasks, record)


def class_path(cluster: "Cluster") -> str:
    """Return the import path of a cluster's class."""
    return f"{type(cluster).__module__}.{type(cluster).__qualname__}"


def cluster_of(job: Job) -> type["Cluster"]:
    """Return the class of the cluster to which a job was submitted.

    Raises:
        UserError: it cannot be imported here.
    """
    try:
        found: type[Cluster] = resolve_name(job.cluster)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"job {job.id} was submitted to a {job.cluster}, which cannot be imported here ({error}); ask where it can"
        ) from error
    return found


class State(NamedTuple):
    """State of a task.

    Attributes:
        word: the state in SLURM's words: ``PENDING``, ``RUNNING``, ``COMPLETED``, ...
        over: whether the task has ended.
    """

    word: str
    over: bool


class Cluster(ABC):
    """A place that runs a job's script, once for each task.

    Attributes:
        task: shell expression for the number of the task, counted from 0.
        python: command that runs Python there; None for the Python that submits.
        setup: lines of shell that come first: modules, a virtual environment, variables.
    """

    task: ClassVar[str]
    python: str | None
    setup: Sequence[str]

    @abstractmethod
    def settle(self, trainer: Any) -> None:
        """Set the options of the trainer that follow from the cluster's settings.

        Args:
            trainer: the trainer's options, changed in place.

        Raises:
            SettingError: the trainer's options contradict the cluster's settings.
        """

    @abstractmethod
    def header(self, name: str, logs: Path, tasks: int | None) -> list[str]:
        """Return the first lines of the script, which the cluster reads.

        Args:
            name: name of the job.
            logs: folder of the logs.
            tasks: number of tasks, or None for a single run.
        """

    @abstractmethod
    def launcher(self) -> str:
        """Return the prefix of a command in the script: empty, or ending with a space."""

    @abstractmethod
    def check(self) -> None:
        """Refuse to submit from a machine on which the cluster cannot be used.

        Raises:
            UserError: with what is missing.
        """

    @abstractmethod
    def start(self, folder: Path, tasks: int | None) -> str:
        """Submit the script in ``folder``, and return the job's id.

        Args:
            folder: the job's folder.
            tasks: number of tasks, or None for a single run.

        Raises:
            UserError: the cluster refuses the job.
        """

    @abstractmethod
    def log(self, folder: Path, job_id: str, task: int | None) -> Path:
        """Return the log of a task.

        Args:
            folder: the job's folder.
            job_id: the job's id, as ``start`` returned it.
            task: number of the task, or None for a single run.
        """

    @staticmethod
    @abstractmethod
    def states(job: Job) -> list[State]:
        """Return the state of each task of a job."""

    @staticmethod
    @abstractmethod
    def cancel(job: Job) -> None:
        """End a job: signal each run to stop, and kill those that do not."""

    def python_command(self) -> str:
        """Return the command that runs Python."""
        # The user's command may have several words, such as "apptainer exec IMAGE python", so only our path is quoted.
        return self.python or shlex.quote(sys.executable)


def state_from_exit_code(code: int | None, unknown: str) -> State:
    """Return the final state of a task from its exit code.

    Args:
        code: the exit code, or None if there is none.
        unknown: the word for a task whose exit code does not tell how it ended.
    """
    # Neither success nor failure: killed without an exit code, or stopped on request before it was done.
    if code in (None, STOPPED_EARLY, ENDED_BY_SIGTERM):
        return State(unknown, over=True)
    return State("COMPLETED" if code == 0 else "FAILED", over=True)


def say(text: str) -> None:
    """Print a line unchanged, and flush it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
