"""SLURM in its documented form: a script for ``sbatch`` in which ``srun`` starts one process per device."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metalit.cluster.base import LOGS, SCRIPT, Cluster, Job, State
from metalit.errors import SettingError, UserError, at_least

START = 120  # seconds: SLURM may send the signal one minute early, and a run may take another to start
# Final states. A job in any other state, such as REQUEUED or SUSPENDED, may run again.
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
}  # fmt: skip


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
    # SLURM may send the signal while the run starts. Python would die of it before the run has installed its handler,
    # so bash ignores it, and exec passes that on.
    launcher: ClassVar[str] = """srun bash -c 'trap "" USR1; exec "$0" "$@"' """

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
        """Check the values that types cannot express."""
        at_least(1, nodes=self.nodes, devices=self.devices, cpus_per_task=self.cpus_per_task)
        at_least(1, grace=self.grace, max_parallel=self.max_parallel)
        # YAML reads an unquoted 12:00:00 as 43200, a number in base 60, which sbatch would take for minutes.
        if isinstance(self.time, int):
            expected = "a time in quotes, such as '12:00:00': without them YAML reads it as a number"
            raise SettingError("time", self.time, expected)
        limit = None if self.time is None else seconds(self.time)
        if limit is not None and limit < self.grace + START:
            raise SettingError(
                "time",
                f"{self.time}, {limit} seconds",
                f"at least {self.grace + START} seconds: a run needs {START} to start in, and is asked to stop grace = "
                f"{self.grace} seconds before the limit; or a smaller grace",
            )

    def apply_to_trainer(self, trainer: Any) -> None:
        """Set devices and nodes, on which SLURM and the trainer must agree; refuse a trainer that contradicts them."""
        # A value that leaves the number open is replaced; any other is the user's, and must agree with the cluster's.
        for name, option, value, defaults in (
            ("devices", "devices", self.devices, ("auto", -1, "-1")),
            ("num_nodes", "nodes", self.nodes, (1,)),
        ):
            given = trainer[name]
            if str(given) != str(value) and given not in defaults:
                expected = f"{value}, which is cluster.{option}: give --cluster.{option} {given}, or no trainer.{name}"
                raise SettingError(f"trainer.{name}", given, expected)
            trainer[name] = value
        if self.gpus and trainer.accelerator == "auto":
            trainer.accelerator = "gpu"  # else a node without its GPUs would run slowly instead of failing
        elif trainer.accelerator in ("gpu", "cuda") and not self.gpus:
            expected = "cpu, because the job has no GPU (cluster.gpus is false); or give --cluster.gpus true"
            raise SettingError("trainer.accelerator", trainer.accelerator, expected)

    def header(self, folder: Path, tasks: int | None) -> list[str]:
        """Return the ``#SBATCH`` lines and the variables that ``srun`` and the run read."""
        logs = str(folder / LOGS).replace("%", "%%")  # "%" starts a pattern
        limit = "" if self.max_parallel is None else f"%{self.max_parallel}"
        options = {
            "job-name": f"{folder.name}.metalit",  # Lightning ignores SLURM in jobs named bash or interactive
            "output": f"{logs}/%j.log" if tasks is None else f"{logs}/%A_%a.log",
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
        requeue = ["export METALIT_REQUEUE=1  # a run that is stopped early has the job queued again"]
        return [
            *(f"#SBATCH {option}" for option in given),
            "",
            *(requeue if self.requeue else []),
            f"export SRUN_CPUS_PER_TASK={self.cpus_per_task}  # srun does not take it from sbatch since SLURM 22.05",
            "export SLURM_KILL_BAD_EXIT=1  # if one process dies, the others end too",
        ]

    def check(self) -> None:
        """Refuse a machine without ``sbatch``."""
        if shutil.which("sbatch") is None:
            raise UserError(
                "there is no sbatch on this machine: submit from a login node of the SLURM cluster, look at the script "
                "with --dry_run true, or use --cluster metalit:cluster/local"
            )

    def start(self, folder: Path, tasks: int | None) -> str:
        """Submit the script with ``sbatch``, and return the job's id."""
        done = call("sbatch", "--parsable", str(folder / SCRIPT))
        if done.returncode:
            raise UserError(f"sbatch refuses the job: {done.stderr.strip()}")
        return done.stdout.strip().partition(";")[0]  # "ID;CLUSTER" where there are several clusters

    @staticmethod
    def states(job: Job) -> list[State]:
        """Return the states from ``squeue``, else from the accounting, else from the script's exit codes."""
        words = ask_squeue(job.id)
        if any(task.id not in words for task in job.tasks):
            words = {**ask_sacct(job.id), **words}
        return [
            State(words[task.id], words[task.id] in ENDED) if task.id in words else task.final_state("UNKNOWN")
            for task in job.tasks
        ]

    @staticmethod
    def cancel(job: Job) -> None:
        """End the job with ``scancel``."""
        done = call("scancel", job.id)
        if done.returncode:
            raise UserError(f"scancel {job.id}: {done.stderr.strip()}")


def seconds(time: str) -> int | None:
    """Return a time limit of ``sbatch`` in seconds; None for no limit."""
    if time.upper() in ("UNLIMITED", "INFINITE"):
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if match is None:
        expected = "minutes, hours:minutes:seconds or days-hours:minutes:seconds, such as '12:00:00'"
        raise SettingError("time", time, expected)
    days, *given = match.groups()
    numbers = [int(number) for number in given if number is not None]
    # After days, and of three numbers, the first is hours, otherwise minutes.
    if days is None and len(numbers) < 3:
        numbers = [0, *numbers]
    hours, minutes, rest = (*numbers, 0, 0)[:3]
    return 86400 * int(days or 0) + 3600 * hours + 60 * minutes + rest


def ask_squeue(job_id: str) -> dict[str, str]:
    """Return the states of a job's tasks by id, as long as the controller remembers them."""
    if shutil.which("squeue") is None:
        raise UserError(f"job {job_id} is in SLURM, but there is no squeue on this machine: ask from a login node")
    # One line per task, and ended tasks too, for the few minutes that the controller remembers them.
    done = call("squeue", "--noheader", "--array", "--states=all", f"--jobs={job_id}", "--format=%i %T")
    # An invalid id is a job that the controller has forgotten, which is no error.
    if done.returncode and "Invalid job id" not in done.stderr:
        raise UserError(f"SLURM does not report the state of job {job_id}: {done.stderr.strip()}")
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


def ask_sacct(job_id: str) -> dict[str, str]:
    """Return the states of a job's tasks from the accounting; empty where there is none."""
    if shutil.which("sacct") is None:
        return {}
    # --allocations, jobs only: each step of a job, such as the one of srun, has a line of its own otherwise.
    done = call("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job_id}", "--format=JobID,State")
    pairs = (line.split("|") for line in done.stdout.splitlines())
    return {task: state.split()[0] for task, state in pairs}  # "CANCELLED by 1000"


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's programs."""
    return subprocess.run(command, capture_output=True, text=True, check=False)
