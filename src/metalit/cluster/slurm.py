"""SLURM in its documented form: a script for ``sbatch`` in which ``srun`` starts one process per device."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metalit.cluster.base import SCRIPT, Cluster, Job, State, state_from_exit_code
from metalit.errors import SettingError, UserError, at_least

START = 120  # seconds: SLURM may send the signal one minute early, and a run may take another to start
# Final states. A job in any other state, such as REQUEUED or SUSPENDED, may run again.
OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}


@dataclass(frozen=True, kw_only=True)
class Slurm(Cluster):
    """A SLURM cluster. Settings that are not given are left to the cluster's defaults.

    Args:
        partition: queue to submit to.
        account: account to charge.
        qos: quality of service.
        nodes: number of machines; also sets the trainer's ``num_nodes``.
        devices: number of processes on each machine; also sets the trainer's ``devices``.
        gpus: whether each process has a GPU of its own.
        cpus_per_task: cores per process, loader workers included.
        memory: memory per machine, such as ``32G``.
        time: time limit of one start, in quotes, such as ``"12:00:00"``; a longer run is queued again and resumes,
            unless ``requeue`` is false.
        constraint: features that the machines must have.
        grace: seconds before the end of ``time`` at which the run receives the signal to save and stop; ``time`` must
            be at least two minutes longer.
        requeue: whether a job is queued again after it was stopped by the time limit or by a more urgent job.
        max_parallel: number of runs of a sweep that may run at the same time.
        setup: lines of shell that come first: modules, a virtual environment, variables.
        python: command that runs Python on the cluster; if not given, the full path of the Python that submits.
        extra: further options of sbatch, such as ``--exclusive``.
    """

    task: ClassVar[str] = "$SLURM_ARRAY_TASK_ID"

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    nodes: int = 1
    devices: int = 1
    gpus: bool = False
    cpus_per_task: int = 1
    memory: str | None = None
    time: str | int | None = None
    constraint: str | None = None
    grace: int = 120
    requeue: bool = True
    max_parallel: int | None = None
    setup: Sequence[str] = ()
    python: str | None = None
    extra: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the values that types cannot express.

        Raises:
            SettingError: a number is too small, or ``time`` is not a time limit that leaves room for ``grace``.
        """
        at_least(1, nodes=self.nodes, devices=self.devices, cpus_per_task=self.cpus_per_task)
        at_least(1, grace=self.grace, max_parallel=self.max_parallel)
        # YAML reads an unquoted 12:00:00 as 43200, a number in base 60, which sbatch would take for minutes.
        if isinstance(self.time, int):
            raise SettingError(
                "time", self.time, "a time in quotes, such as '12:00:00', else YAML makes a number of it"
            )
        limit = None if self.time is None else seconds(str(self.time))
        if limit is not None and limit < self.grace + START:
            raise SettingError(
                "time",
                f"{self.time}, {limit} seconds",
                f"at least {self.grace + START} seconds: a run needs {START} to start in, and is told to stop grace = "
                f"{self.grace} seconds before the limit; or a smaller grace",
            )

    def settle(self, trainer: Any) -> None:
        """Set devices and nodes, on which SLURM and the trainer must agree.

        Raises:
            SettingError: the trainer's devices, nodes or accelerator contradict the cluster's.
        """
        # A value that leaves the number open is replaced; any other is the user's, and must agree with the cluster's.
        for name, value, default in (
            ("devices", self.devices, ("auto", -1, "-1")),
            ("num_nodes", self.nodes, (1,)),
        ):
            option = {"num_nodes": "nodes"}.get(name, name)
            found = trainer[name]
            if str(found) != str(value) and found not in default:
                raise SettingError(
                    f"trainer.{name}",
                    found,
                    f"{value}, which is cluster.{option}: give --cluster.{option} {found}, or no trainer.{name}",
                )
            trainer[name] = value
        if self.gpus and trainer.accelerator == "auto":
            trainer.accelerator = "gpu"  # else a node without its GPUs would run slowly instead of failing
        elif trainer.accelerator in ("gpu", "cuda") and not self.gpus:
            raise SettingError(
                "trainer.accelerator",
                trainer.accelerator,
                "cpu, for cluster.gpus is false and the job would have no GPU; or give --cluster.gpus true",
            )

    def header(self, name: str, logs: Path, tasks: int | None) -> list[str]:
        """Return the ``#SBATCH`` lines and the variables that ``srun`` and the run read."""
        log = str(logs / ("%j.log" if tasks is None else "%A_%a.log"))
        limit = "" if self.max_parallel is None else f"%{self.max_parallel}"
        options = {
            "job-name": f"{name}.metalit",  # Lightning ignores SLURM in jobs named bash or interactive
            "output": str(logs).replace("%", "%%") + log.removeprefix(str(logs)),  # "%" starts a pattern
            "open-mode": "append",  # one log, even if the job is started again
            "array": None if tasks is None else f"0-{tasks - 1}{limit}",
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "nodes": self.nodes,
            "ntasks-per-node": self.devices,  # Lightning refuses to start if the trainer's devices differ
            "gpus-per-node": self.devices if self.gpus else None,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.memory,
            "time": self.time,
            "constraint": self.constraint,
            "signal": f"USR1@{self.grace}",  # without "B:" it reaches the processes of srun, not the script
        }
        given = [f"--{key}={shlex.quote(str(value))}" for key, value in options.items() if value is not None]
        given += ["--requeue" if self.requeue else "--no-requeue", *self.extra]
        return [
            *(f"#SBATCH {option}" for option in given),
            "",
            *(["export METALIT_REQUEUE=1  # a run that is stopped early has the job queued again"] * self.requeue),
            f"export SRUN_CPUS_PER_TASK={self.cpus_per_task}  # srun does not take it from sbatch since SLURM 22.05",
            "export SLURM_KILL_BAD_EXIT=1  # if one process dies, the others end too",
        ]

    def launcher(self) -> str:
        """Return the call of ``srun``."""
        # SLURM may send the signal while the run starts. Python would die of it before the run has installed its
        # handler, so bash ignores it, and exec passes that on.
        return """srun bash -c 'trap "" USR1; exec "$0" "$@"' """

    def check(self) -> None:
        """Refuse a machine without ``sbatch``.

        Raises:
            UserError: there is no ``sbatch``.
        """
        if shutil.which("sbatch") is None:
            raise UserError(
                "there is no sbatch on this machine: submit from a login node of the SLURM cluster, look at the script "
                "with --dry_run true, or use --cluster metalit:cluster/local"
            )

    def start(self, folder: Path, tasks: int | None) -> str:
        """Submit the script with ``sbatch``, and return the job's id.

        Raises:
            UserError: ``sbatch`` refuses the job.
        """
        done = subprocess.run(
            ["sbatch", "--parsable", str(folder / SCRIPT)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"sbatch refuses the job: {done.stderr.strip()}")
        return done.stdout.strip().partition(";")[0]  # "ID;CLUSTER" where there are several clusters

    def log(self, folder: Path, job_id: str, task: int | None) -> Path:
        """Return the file to which ``header`` directs the output."""
        return folder / "logs" / (f"{job_id}.log" if task is None else f"{job_id}_{task}.log")

    @staticmethod
    def states(job: Job) -> list[State]:
        """Return the states from ``squeue``, else from the accounting, else from the script's exit codes."""
        words = ask_squeue(job.id)
        if any(task.id not in words for task in job.tasks):
            words = {**ask_sacct(job.id), **words}
        return [
            State(words[task.id], words[task.id] in OVER)
            if task.id in words
            else state_from_exit_code(task.exit_code(), "UNKNOWN")
            for task in job.tasks
        ]

    @staticmethod
    def cancel(job: Job) -> None:
        """End the job with ``scancel``.

        Raises:
            UserError: ``scancel`` fails.
        """
        done = subprocess.run(["scancel", job.id], capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"scancel {job.id}: {done.stderr.strip()}")


def seconds(time: str) -> int | None:
    """Return a time limit of ``sbatch`` in seconds; None for no limit.

    Args:
        time: ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours``, ``days-hours:minutes`` or
            ``days-hours:minutes:seconds``, or ``UNLIMITED``.

    Raises:
        SettingError: it has none of these forms.
    """
    if time.upper() in ("UNLIMITED", "INFINITE"):
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if match is None:
        raise SettingError(
            "time",
            time,
            "minutes, hours:minutes:seconds or days-hours:minutes:seconds, such as '12:00:00'",
        )
    days, *given = match.groups()
    numbers = [int(number) for number in given if number is not None]
    # With days or with three numbers the first one is hours; otherwise it is minutes.
    if days is not None or len(numbers) == 3:
        hours, minutes, rest = (*numbers, 0, 0)[:3]
    else:
        hours, minutes, rest = (0, *numbers, 0)[:3]
    return 86400 * int(days or 0) + 3600 * hours + 60 * minutes + rest


def ask_squeue(job_id: str) -> dict[str, str]:
    """Return the states of a job's tasks by id, as long as the controller remembers them.

    Raises:
        UserError: there is no ``squeue``, or the controller does not answer.
    """
    if shutil.which("squeue") is None:
        raise UserError(f"job {job_id} is in SLURM, but there is no squeue on this machine: ask from a login node")
    # One line per task, and ended tasks too, for the few minutes that the controller remembers them.
    command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={job_id}", "--format=%i %T"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # An invalid id is a job that the controller has forgotten, which is no error.
    if done.returncode and "Invalid job id" not in done.stderr:
        raise UserError(f"SLURM does not say how job {job_id} is: {done.stderr.strip()}")
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


def ask_sacct(job_id: str) -> dict[str, str]:
    """Return the states of a job's tasks from the accounting; empty where there is none."""
    if shutil.which("sacct") is None:
        return {}
    command = [
        "sacct",
        "--noheader",
        "--parsable2",
        # Jobs only: each step of a job, such as the one of srun, has a line of its own otherwise.
        "--allocations",
        f"--jobs={job_id}",
        "--format=JobID,State",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    pairs = (line.split("|") for line in done.stdout.splitlines())
    return {task: state.split()[0] for task, state in pairs}  # "CANCELLED by 1000"
