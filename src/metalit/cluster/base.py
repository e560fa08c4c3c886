"""The interface of a cluster, and the record of a job on one."""

import json
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar, NamedTuple

from metalit.errors import UserError
from metalit.exit_codes import STOPPED_EARLY
from metalit.files import write_text

RECORD = "job.json"
SCRIPT = "job.sh"
CONFIG = "job.yaml"
CODE = "code"  # folder with the copy of the code
LOGS = "logs"  # folder with the log of each task, <id>.log
EXIT_CODE = "job.exit"  # written by the script: without accounting, SLURM soon forgets how a job ended
ENDED_BY_SIGTERM = 128 + signal.SIGTERM  # stopped before it could save, or while it waited for other processes


class State(NamedTuple):
    """State of a task."""

    word: str  # in SLURM's words: PENDING, RUNNING, COMPLETED, ...
    ended: bool  # whether the task has ended


class Task(NamedTuple):
    """One run of a job."""

    name: str  # distinguishes the run from the others of the job; empty if it is the only one
    folder: Path  # the run folder
    id: str  # the cluster's identifier of the run
    log: Path  # the file with the run's output

    def final_state(self, unknown: str) -> State:
        """Return the state by the exit code, or the word ``unknown`` if that does not tell how the task ended."""
        code = exit_code(self.folder)
        # Neither success nor failure: killed without an exit code, or stopped on request before it was done.
        if code in (None, STOPPED_EARLY, ENDED_BY_SIGTERM):
            return State(unknown, ended=True)
        return State("COMPLETED" if code == 0 else "FAILED", ended=True)


class Job(NamedTuple):
    """Everything submitted in one go."""

    cluster: str  # import path of the cluster's class
    id: str  # the cluster's identifier of the job
    folder: Path  # the folder with the script and the code
    tasks: Sequence[Task]  # the runs
    about: Mapping[str, Any]  # facts for the reader: command, time, machine, version of the code

    def write(self, folder: Path) -> None:
        """Write the job's record into a folder."""
        tasks = [task._asdict() for task in self.tasks]
        record = {"cluster": self.cluster, "id": self.id, **self.about, "folder": self.folder, "tasks": tasks}
        write_text(folder / RECORD, json.dumps(record, indent=2, default=str) + "\n")


def read_job(folder: Path) -> Job:
    """Return the job of a run folder, or of a sweep's folder; refuse a folder without one, or a damaged record."""
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no job ({RECORD} is missing); name the run folder that submit printed")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        tasks = [
            Task(each["name"], Path(each["folder"]), each["id"], Path(each["log"])) for each in record.pop("tasks")
        ]
        job = Job(record.pop("cluster"), record.pop("id"), Path(record.pop("folder")), tasks, about=record)
        return moved(job, folder.absolute())
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); look for the job with the cluster's own commands") from error


def moved(job: Job, place: Path) -> Job:
    """Return the job with the paths that it has now, if its folder was moved since it was submitted.

    Args:
        job: as recorded.
        place: where the record was found: the job's folder, or that of one run of a sweep.
    """
    # a run of a sweep is in a folder of its name, with a record of its own
    home = place.parent if [task.name for task in job.tasks] == [place.name] else place
    tasks = [
        task._replace(folder=home / task.folder.relative_to(job.folder), log=home / task.log.relative_to(job.folder))
        for task in job.tasks
    ]
    return job._replace(folder=home, tasks=tasks)


def exit_code(run_folder: Path) -> int | None:
    """Return the exit code of a run's last start, or None if that has not ended."""
    path = run_folder / EXIT_CODE
    text = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    return int(text) if text.isdecimal() else None  # a damaged file says as little as a missing one


def cluster_of(job: Job) -> type["Cluster"]:
    """Return the class of the cluster to which a job was submitted; refuse one that cannot be imported here."""
    try:
        found: type[Cluster] = resolve_name(job.cluster)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"job {job.id} was submitted to a {job.cluster}, which cannot be imported here ({error}); ask where it can"
        ) from error
    return found


class Cluster(ABC):
    """A place that runs the script in a job's folder, once for each task.

    A sweep has several tasks, with the ids ``<job's id>_0``, ``<job's id>_1``, ...; where a method takes the number of
    ``tasks``, it is None for a single run, whose id is the job's. The output of a task belongs in ``logs/<id>.log`` in
    the job's folder.

    Attributes:
        task: shell expression for the number of the task, counted from 0.
        launcher: prefix of a command in the script: empty, or ending with a space.
        python: command that runs Python there; None for the Python that submits.
        setup: lines of shell that come first: modules, a virtual environment, variables.
    """

    task: ClassVar[str]
    launcher: ClassVar[str] = ""
    python: str | None
    setup: Sequence[str]

    @abstractmethod
    def apply_to_trainer(self, trainer: Any) -> None:
        """Set the options of the trainer that follow from the cluster's settings.

        Args:
            trainer: the trainer's options, changed in place.

        Raises:
            SettingError: the trainer's options contradict the cluster's settings.
        """

    def header(self, folder: Path, tasks: int | None) -> list[str]:
        """Return the first lines of the script, which the cluster reads; by default none."""
        return []

    @abstractmethod
    def check(self) -> None:
        """Refuse a machine from which nothing can be submitted to the cluster, before anything is written.

        Raises:
            UserError: with what is missing.
        """

    @abstractmethod
    def start(self, folder: Path, tasks: int | None) -> str:
        """Submit the script in the job's folder, and return the job's id.

        Raises:
            UserError: the cluster refuses the job.
        """

    @staticmethod
    @abstractmethod
    def states(job: Job) -> list[State]:
        """Return the state of each task of a job."""

    @staticmethod
    @abstractmethod
    def cancel(job: Job) -> None:
        """End a job: signal each run to stop, and kill those that do not."""
