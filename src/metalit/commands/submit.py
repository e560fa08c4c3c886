"""``submit``: check an ordinary command on this machine, and submit it to a cluster."""

import shlex
import shutil
import socket
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from metalit.cli.config_files import check_config_file
from metalit.cli.errors import innermost
from metalit.cli.parser import ArgumentParser
from metalit.cli.program import program_name
from metalit.cli.shipped import PREFIX, config_path
from metalit.cli.values import any_of
from metalit.cluster.base import CODE, CONFIG, EXIT_CODE, LOGS, RECORD, SCRIPT, Cluster, Job, Task, read_job
from metalit.cluster.script import job_script
from metalit.cluster.snapshot import RUNS, Code, find_code
from metalit.commands import sweeps
from metalit.commands.checked import Run, check_runs
from metalit.commands.manage import say, states
from metalit.errors import SettingError, UserError
from metalit.files import keep_old, write_text
from metalit.locks import lock_while_open
from metalit.runs import new_folder

RUN_COMMANDS = ("fit", "validate", "test", "predict")
FLAGS = ("--test", "--dry_run", "--dry-run")  # may be given without a value
LOCK = "job.lock"  # locked while a job is submitted into the folder


def submit(args: Sequence[str]) -> None:
    """Run the command ``submit``."""
    own, command = split(args)
    options = read_options(own)
    if not command:
        raise UserError(f"command: not given; expected {any_of(RUN_COMMANDS)} and its options after those of submit")
    if options.test and command[0] != "fit":
        raise UserError(f"test: is true, but the command is {command[0]}; only a training can be followed by a test")
    # Everything is checked before anything is written or queued: a mistake shows now, not when the job starts.
    points = None if options.sweep is None else sweeps.read_sweep(options.sweep)
    folder, runs = check_runs(command, options.cluster, points, sweep_folder(options.sweep or ""))
    check_free(folder, runs)
    if command[0] == "fit":
        check_no_old_training(runs)
    code = find_code(Path.cwd(), folder)
    names = [run.name for run in runs if run.name]
    # The checkpoint is the same for all points: a sweep may not set ckpt_path.
    script = job_script(options.cluster, code, folder, names, command[0], runs[0].checkpoint, options.test)
    if options.dry_run:
        say(f"{script}\n# This would be {folder / SCRIPT}. Nothing was written, nothing submitted.")
        return
    options.cluster.check()
    about = {
        "command": shlex.join([*program_name().split(), "submit", *args]),
        "directory": str(Path.cwd()),
        "host": socket.gethostname(),
        "submitted": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": code.commit,
        "uncommitted_changes": code.changed,
    }
    job = submit_job(options.cluster, script, folder, runs, code, about)
    program, quoted = program_name(), shlex.quote(str(folder))
    count = f", {len(names)} runs" if names else ""
    say(f"Submitted job {job.id} ({type(options.cluster).__name__}{count})")
    say(f"  folder  {folder}\n  log     {job.tasks[0].log if len(runs) == 1 else folder / LOGS}")
    for name in ("status", "logs", "cancel"):
        say(f"  {name:7} {program} {name} {quoted}")


def split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return submit's own options and the command after them; a flag without a value becomes ``--flag=true``."""
    own: list[str] = []
    rest = list(args)
    while rest and rest[0] not in RUN_COMMANDS:
        word = rest.pop(0)
        if word in FLAGS and (not rest or rest[0] not in ("true", "false")):
            word += "=true"
        own.append(word)
        # The word after an option is its value, even if it is the name of a command.
        if word.startswith("--") and "=" not in word and rest:
            value = rest.pop(0)
            own.append(cluster_file(value) if word == "--cluster" else value)
    return own, rest


def cluster_file(name: str) -> str:
    """Return the path of a configuration file of a cluster; any other word is the name of a class."""
    if not (name.startswith(PREFIX) or Path(name).suffix in (".yaml", ".yml")):
        return name
    try:
        path = config_path(name)
        check_config_file(path)
    except ValueError as error:
        raise UserError(f"cluster: {error}") from None
    return str(path)


def read_options(args: Sequence[str]) -> Any:
    """Return submit's own options, with the cluster object built."""
    parser = ArgumentParser(
        prog=f"{program_name()} submit",
        usage="%(prog)s --cluster FILE [options] {fit,validate,test,predict} [options of the run]",
        description="Have a command run on a cluster. --cluster.help Slurm and --cluster.help Local list the settings.",
    )
    parser.add_subclass_arguments(Cluster, "cluster", help="File with the settings of the cluster.")
    parser.add_argument("--sweep", type=str | None, help="File of a sweep: one run for each of its points.")
    parser.add_argument("--test", type=bool, default=False, help="Test the best checkpoint after the training.")
    parser.add_argument(
        "--dry_run", "--dry-run", type=bool, default=False, help="Print the script; write and submit nothing."
    )
    options = parser.parse_args(list(args))
    if options.cluster is None:
        raise UserError(
            "cluster: not given; use --cluster FILE, such as metalit:cluster/slurm or metalit:cluster/local"
        )
    try:
        return parser.instantiate(options)
    except ValueError as error:
        # The cluster class names its setting alone ("time"); users know the option as cluster.time.
        cause = innermost(error)
        if isinstance(cause, SettingError):
            raise SettingError(f"cluster.{cause.name}", cause.value, cause.expected) from None
        raise cause from None


def sweep_folder(file: str) -> Path:
    """Return a new folder for a sweep without ``--run_dir``, named by its file: W&B and SLURM show the name."""
    time = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return new_folder(Path(RUNS) / f"{Path(file.removeprefix(PREFIX)).stem}-{time}")


def check_free(folder: Path, runs: Sequence[Run]) -> None:
    """Refuse folders whose job has not ended: two jobs would resume from each other's checkpoints."""
    for used in {folder, *(run.folder for run in runs)}:
        if not (used / RECORD).exists():
            continue
        job = read_job(used)
        waiting = [state.word for state in states(job) if not state.ended]
        if waiting:
            raise UserError(
                f"run_dir: {used} has a job that has not ended, {job.id} ({waiting[0]}); wait for it, end it by "
                f"{program_name()} cancel {shlex.quote(str(used))}, or name another --run_dir"
            )


def check_no_old_training(runs: Sequence[Run]) -> None:
    """Refuse to start a new training in the folder of an old one, from whose checkpoint the job would resume."""
    for run in runs:
        last = run.folder / "checkpoints" / "last.ckpt"
        is_resumed = run.checkpoint == "last" or Path(run.checkpoint or "").absolute() == last
        if last.exists() and not is_resumed:
            raise UserError(
                f"run_dir: {run.folder} has the checkpoint of an earlier training; give --ckpt_path last to go on with "
                "that, or another --run_dir to start a new one"
            )


def submit_job(
    cluster: Cluster, script: str, folder: Path, runs: Sequence[Run], code: Code, about: dict[str, Any]
) -> Job:
    """Write the job's files, submit it, and return its record."""
    is_new = not folder.exists()
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            lock_while_open(lock)
        except BlockingIOError:
            raise UserError(f"run_dir: another job is being submitted into {folder}; name another --run_dir") from None
        # Once more, now that no other submission can come between the check and the writing.
        check_free(folder, runs)
        try:
            write_files(script, folder, runs, code)
            job_id = cluster.start(folder, len(runs) if runs[0].name else None)
        except (ValueError, OSError):
            # A refused job leaves nothing behind; a folder that existed before is kept, with the results in it.
            if is_new:
                shutil.rmtree(folder)
            raise
        tasks = []
        for number, run in enumerate(runs):
            task_id = f"{job_id}_{number}" if run.name else job_id  # as SLURM names the tasks of a job array
            tasks.append(Task(run.name, run.folder, task_id, folder / LOGS / f"{task_id}.log"))
        job = Job(f"{type(cluster).__module__}.{type(cluster).__qualname__}", job_id, folder, tasks, about)
        # So that status, logs and cancel accept the folder of one run of a sweep.
        parts = {task.folder: job._replace(id=task.id, tasks=[task]) for task in tasks}
        # Only now that the job is accepted: until then the old record still describes the last job.
        for used, part in {**parts, folder: job}.items():
            keep_old(used / RECORD)
            part.write(used)
    return job


def write_files(script: str, folder: Path, runs: Sequence[Run], code: Code) -> None:
    """Write the script, the copy of the code and each run's settings; existing files are kept under a number."""
    keep_old(folder / SCRIPT, folder / CODE)
    write_text(folder / SCRIPT, script)
    code.copy(folder / CODE)
    for run in runs:
        # Left by an earlier job: status would report it as the end of this one.
        (run.folder / EXIT_CODE).unlink(missing_ok=True)
        keep_old(run.folder / CONFIG)
        write_text(run.folder / CONFIG, run.config)
