"""``submit``: check an ordinary command on this machine, and submit it to a cluster."""

import shlex
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from metalit.cli.config_files import check_config_file
from metalit.cli.errors import innermost
from metalit.cli.parser import ArgumentParser
from metalit.cli.program import program_name
from metalit.cli.shipped import PREFIX, config_path
from metalit.cli.values import any_of
from metalit.cluster.base import (
    CODE,
    CONFIG,
    EXIT_CODE,
    RECORD,
    SCRIPT,
    Cluster,
    Job,
    Task,
    class_path,
    read_job,
    say,
)
from metalit.cluster.script import Work, job_script
from metalit.cluster.snapshot import RUNS, Code, find_code
from metalit.commands import sweeps
from metalit.commands.checked import Run, check_runs, check_start
from metalit.commands.manage import states
from metalit.errors import SettingError, UserError
from metalit.files import keep_old, write_text
from metalit.locks import lock_while_open
from metalit.runs import new_folder

COMMANDS = ("fit", "validate", "test", "predict")
FLAGS = ("--test", "--dry_run", "--dry-run")  # may be given without a value
LOCK = "job.lock"  # locked while a job is submitted into the folder


def submit(args: Sequence[str]) -> None:
    """Run the command ``submit``.

    Raises:
        UserError: the job cannot be submitted as requested.
    """
    own, command = split(args)
    parser = submit_parser()
    options = read_options(parser, own)
    if not command:
        raise UserError(f"command: not given; expected {any_of(COMMANDS)} and its options after those of submit")
    if options.test and command[0] != "fit":
        raise UserError(f"test: is true, but the command is {command[0]}; only a training can be followed by a test")
    # Everything is checked before anything is written or queued: a mistake shows now, not when the job starts.
    points = None if options.sweep is None else sweeps.read_sweep(options.sweep)
    folder, runs = check_runs(command, options.cluster, points, sweep_folder(options.sweep))
    check_folders(folder, runs, command[0])
    code = find_code(Path.cwd(), folder)
    work = Work(
        command=command[0],
        # The same for all points: a sweep may not set ckpt_path.
        checkpoint=runs[0].checkpoint,
        then_test=options.test,
        folder=folder,
        points=None if points is None else [run.name for run in runs],
        program=code.program(),
        paths=code.import_paths(),
        directory=Path.cwd(),
        version=code.version(),
    )
    script = job_script(options.cluster, work)
    if options.dry_run:
        say(f"{script}\n# This would be {folder / SCRIPT}. Nothing was written, nothing submitted.")
        return
    # After the dry run, which needs no SLURM.
    options.cluster.check()
    about = {
        "command": shlex.join([*program_name().split(), "submit", *args]),
        "directory": str(Path.cwd()),
        "host": socket.gethostname(),
        "submitted": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": code.commit,
        "uncommitted_changes": code.changed,
    }
    describe(queue(options.cluster, script, work, runs, code, about))


def split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return submit's own options and the command after them; a flag without a value becomes ``--flag=true``."""
    own: list[str] = []
    rest = list(args)
    while rest and rest[0] not in COMMANDS:
        word = rest.pop(0)
        if word in FLAGS and (not rest or rest[0] not in ("true", "false")):
            word += "=true"
        own.append(word)
        # The word after an option is its value, even if it is the name of a command.
        if word.startswith("--") and "=" not in word and rest:
            own.append(rest.pop(0))
    return own, rest


def sweep_folder(file: str | None) -> Path:
    """Return a new folder for a sweep without ``--run_dir``, named by its file: W&B and SLURM show the name."""
    time = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return new_folder(Path(RUNS) / f"{Path((file or '').removeprefix(PREFIX)).stem}-{time}")


def submit_parser() -> ArgumentParser:
    """Return the parser of submit's own options."""
    parser = ArgumentParser(
        prog=f"{program_name()} submit",
        usage="%(prog)s --cluster FILE [options] {fit,validate,test,predict} [options of the run]",
        description="Have a command run on a cluster. --cluster.help Slurm and --cluster.help Local list the settings.",
    )
    parser.add_subclass_arguments(Cluster, "cluster", help="File with the settings of the cluster.")
    parser.add_argument(
        "--sweep", type=str | None, default=None, help="File of a sweep: one run for each of its points."
    )
    parser.add_argument("--test", type=bool, default=False, help="Test the best checkpoint after the training.")
    parser.add_argument(
        "--dry_run", "--dry-run", type=bool, default=False, help="Print the script; write and submit nothing."
    )
    return parser


def read_options(parser: ArgumentParser, args: Sequence[str]) -> Any:
    """Return submit's own options, with the cluster object built.

    Raises:
        UserError: no cluster is given, or its settings cannot be used.
    """
    options = parser.parse_args([*cluster_files(args)])
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


def cluster_files(args: Sequence[str]) -> Iterator[str]:
    """Yield submit's own options, with each configuration file of ``--cluster`` as a path.

    Raises:
        UserError: there is no such file, or it is not a configuration file.
    """
    for before, word in pairwise(["", *args]):
        # Any other word after --cluster is the name of a class.
        if before != "--cluster" or not (word.startswith(PREFIX) or Path(word).suffix in (".yaml", ".yml")):
            yield word
            continue
        try:
            check_config_file(path := config_path(word))
        except ValueError as error:
            raise UserError(f"cluster: {error}") from None
        yield str(path)


@contextmanager
def only_submission(folder: Path) -> Iterator[None]:
    """Prevent a second submission into the same folder while this one runs.

    Raises:
        UserError: another submission is running.
    """
    with (folder / LOCK).open("w") as lock:
        try:
            lock_while_open(lock)
        except BlockingIOError:
            raise UserError(f"run_dir: another job is being submitted into {folder}; name another --run_dir") from None
        yield


def queue(cluster: Cluster, script: str, work: Work, runs: Sequence[Run], code: Code, about: dict[str, Any]) -> Job:
    """Write the job's files, submit it, and return its record.

    Args:
        cluster: the cluster to submit to.
        script: text of the job's script.
        work: what the script does.
        runs: the runs, in the order of the tasks.
        code: the code to copy.
        about: facts about the submission for the record.

    Raises:
        UserError: a folder is in use, or the cluster refuses the job.
    """
    folder, count = work.folder, None if work.points is None else len(runs)
    is_new = not folder.exists()
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with only_submission(folder):
        # Once more, now that no other submission can come between the check and the writing.
        check_folders(folder, runs, work.command)
        try:
            write(script, folder, runs, code)
            job_id = cluster.start(folder, count)
        except (ValueError, OSError):
            # A refused job leaves nothing behind; a folder that existed before is kept, with the results in it.
            if is_new:
                shutil.rmtree(folder)
            raise
        # Numbers of the tasks, with which SLURM names those of a job array: 4711_0, 4711_1, ...
        numbers = [None] if count is None else list(range(count))
        tasks = [
            Task(
                run.name,
                run.folder,
                job_id if number is None else f"{job_id}_{number}",
                cluster.log(folder, job_id, number),
            )
            for run, number in zip(runs, numbers, strict=True)
        ]
        # Only now that the job is accepted: until then the old record still describes the last job.
        for used in {folder, *(run.folder for run in runs)}:
            keep_old(used / RECORD)
        job = Job(class_path(cluster), job_id, folder, tuple(tasks), about)
        job.write()
    return job


def check_folders(folder: Path, runs: Sequence[Run], command: str) -> None:
    """Refuse folders that are in use, or that hold a checkpoint from which the runs would resume by mistake.

    Raises:
        UserError: with the ways out.
    """
    check_free(folder)
    for run in runs:
        check_free(run.folder)
        if command == "fit":
            check_start(run)


def check_free(folder: Path) -> None:
    """Refuse a folder whose job has not ended: two jobs would resume from each other's checkpoints.

    Raises:
        UserError: with the job.
    """
    if not (folder / RECORD).exists():
        return
    job = read_job(folder)
    waiting = [state.word for state in states(job) if not state.over]
    if waiting:
        raise UserError(
            f"run_dir: {folder} has a job that has not ended, {job.id} ({waiting[0]}); wait for it, end it by "
            f"{program_name()} cancel {shlex.quote(str(folder))}, or name another --run_dir"
        )


def write(script: str, folder: Path, runs: Sequence[Run], code: Code) -> None:
    """Write the script, the copy of the code and each run's settings; existing files are kept under a number."""
    keep_old(folder / SCRIPT, folder / CODE)
    write_text(folder / SCRIPT, script)
    code.copy(folder / CODE)
    for run in runs:
        run.folder.mkdir(parents=True, exist_ok=True)
        # Left by an earlier job: status would report it as the end of this one.
        (run.folder / EXIT_CODE).unlink(missing_ok=True)
        keep_old(run.folder / CONFIG)
        write_text(run.folder / CONFIG, run.config)


def describe(job: Job) -> None:
    """Print what was submitted, and the commands to look after it."""
    program, folder = program_name(), shlex.quote(str(job.folder))
    count = f", {len(job.tasks)} runs" if job.tasks[0].name else ""
    logs = job.tasks[0].log if len(job.tasks) == 1 else job.folder / "logs"
    say(f"Submitted job {job.id} ({job.cluster.rpartition('.')[2]}{count})")
    say(f"  folder  {job.folder}\n  log     {logs}")
    for command in ("status", "logs", "cancel"):
        say(f"  {command:7} {program} {command} {folder}")
