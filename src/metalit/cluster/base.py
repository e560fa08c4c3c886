"""What a cluster is, and what a job on one is."""

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
from metalit.runs.preemption import STOPPED_EARLY

RECORD = "job.json"
SCRIPT = "job.sh"
CONFIG = "job.yaml"
CODE = "code"  # folder with the copy of the code
EXIT_CODE = "job.exit"  # written by the script: a cluster without accounting soon forgets how a job ended
ENDED_BY_SIGTERM = 128 + signal.SIGTERM  # asked to stop, before it could save or while it waited for the others


class Task(NamedTuple):
    """One run of a job.

    Attributes:
        name: what tells it from the job's other runs; empty if it is the only one.
        folder: the run folder.
        id: by what the cluster knows it.
        log: the file with what it says.
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
    """What was submitted in one go.

    Attributes:
        cluster: the import path of the cluster's class.
        id: by what the cluster knows it.
        folder: where its script and its code are.
        tasks: its runs.
        about: for the reader: the command, when, on which machine, the version of the code.
    """

    cluster: str
    id: str
    folder: Path
    tasks: tuple[Task, ...]
    about: Mapping[str, Any]

    def write(self) -> None:
        """Write the record of the job, and that of each run into its own folder."""
        self._write(self.folder)
        for task in self.tasks:
            if task.folder != self.folder:
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
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_job(folder: Path) -> Job:
    """Return the job of a run folder, or of the folder of a sweep.

    Raises:
        FileNotFoundError: nothing was submitted there.
        ValueError: its record is damaged.
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
    """Return the class of the cluster that a job was submitted to.

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
    """How a task is: in SLURM's words (``PENDING``, ``RUNNING``, ``COMPLETED``, ...), and whether it has ended."""

    word: str
    over: bool


class Cluster(ABC):
    """Something that runs a job's script, once for each of its tasks.

    Attributes:
        task: the number of the task, from 0, as the script finds it.
        python: the command that runs Python there; None is the one that submits.
        setup: lines of shell that come before: modules, a virtual environment, variables.
    """

    task: ClassVar[str]
    python: str | None
    setup: Sequence[str]

    @abstractmethod
    def settle(self, trainer: Any) -> None:
        """Set those of the trainer's options that follow from the cluster's.

        Raises:
            ValueError: they contradict each other.
        """

    @abstractmethod
    def header(self, name: str, logs: Path, tasks: int | None) -> list[str]:
        """Return the first lines of the script, which the cluster reads.

        Args:
            name: of the job.
            logs: folder of the logs.
            tasks: how many, or None for a single run.
        """

    @abstractmethod
    def launcher(self) -> str:
        """Return what stands before a command in the script; empty, or ending with a space."""

    @abstractmethod
    def check(self) -> None:
        """Refuse to submit from a machine where that cannot be done.

        Raises:
            ValueError: with what is missing.
        """

    @abstractmethod
    def start(self, folder: Path, tasks: int | None) -> str:
        """Submit the script in ``folder``, and return the job's id.

        Raises:
            ValueError: the cluster refuses it.
        """

    @abstractmethod
    def log(self, folder: Path, job_id: str, task: int | None) -> Path:
        """Return the log of a task."""

    @staticmethod
    @abstractmethod
    def states(job: Job) -> list[State]:
        """Return how each task of a job is."""

    @staticmethod
    @abstractmethod
    def cancel(job: Job) -> None:
        """End a job: each run is asked to, and made to if it does not."""

    def python_command(self) -> str:
        """Return the command that runs Python."""
        return self.python or shlex.quote(sys.executable)


def state_from_exit_code(code: int | None, unknown: str) -> State:
    """Return how a task ended, as far as its exit code tells; else the word ``unknown``."""
    if code in (None, STOPPED_EARLY, ENDED_BY_SIGTERM):
        return State(unknown, over=True)
    return State("COMPLETED" if code == 0 else "FAILED", over=True)


def say(text: str) -> None:
    """Print a line, as it is and at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
