"""``status``, ``logs`` and ``cancel``: what becomes of a job, by the name of its folder."""

import itertools
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from metalit.cli.lost_ranks import LOST_RANK
from metalit.cli.parser import ArgumentParser
from metalit.cli.program import program_name
from metalit.cluster.base import Job, State, Task, cluster_of, read_job, say

TAIL = 2**16  # bytes of a log in which its last line is
# what SLURM and ranks that end with another one say of a failure, which is not its cause
OF_OTHERS = ("srun: ", "slurmstepd: ", LOST_RANK, "error: the process ")
ERROR = re.compile(r"error: |(\[rank\d+\]: )?[A-Za-z_][\w.]*(Error|Exception|Interrupt)\b")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and movements of the cursor
INTERVAL = 0.3  # seconds between two looks at a log
PATIENCE = 20  # looks between two questions whether the job has ended: the cluster has others to answer


def status(args: Sequence[str]) -> None:
    """Run the command ``status``: a line for each run of a job."""
    parser = folder_parser(
        "status",
        "Say how a job is: state, exit code of the last start, last line of the log or the error in it.",
    )
    job = named_job(parser.parse_args(list(args)))
    rows = [("run", "job", "state", "exit code", "last line")]
    for task, state in zip(job.tasks, states(job), strict=True):
        code = task.exit_code()
        name = task.name or task.folder.name
        says = error_line(task.log) if state.word == "FAILED" else None
        rows.append((name, task.id, state.word, "" if code is None else str(code), says or last_line(task.log)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def logs(args: Sequence[str]) -> None:
    """Run the command ``logs``: what the runs of a job have said, and go on saying."""
    parser = folder_parser("logs", "Print the log of a job; of a sweep, those of all its runs.")
    parser.add_argument(
        "--follow", type=bool, default=False, help="Go on until the job ends; Ctrl-C ends this, not the job."
    )
    arguments = [*args, "true"] if args[-1:] == ["--follow"] else list(args)
    options = parser.parse_args(arguments)
    job = named_job(options)
    reader = LogReader(job.tasks)
    is_over = all(state.over for state in states(job))
    reader.print_new()
    if not (options.follow or reader.printed):
        say(f"There is no log yet: job {job.id} is {states(job)[0].word}")
    if options.follow and not is_over:
        with suppress(KeyboardInterrupt):
            follow(job, reader)


def follow(job: Job, reader: "LogReader") -> None:
    """Print what is new in the logs until the job has ended."""
    for look in itertools.count(1):
        time.sleep(INTERVAL)
        is_over = look % PATIENCE == 0 and all(state.over for state in states(job))
        reader.print_new()  # after the question, so that what was said last is there
        if is_over:
            return


def cancel(args: Sequence[str]) -> None:
    """Run the command ``cancel``: end a job, or one run of a sweep."""
    parser = folder_parser("cancel", "End a job. Its runs save first; fit --ckpt_path last goes on with them.")
    job = named_job(parser.parse_args(list(args)))
    if all(state.over for state in states(job)):
        say(f"Job {job.id} had ended already")
        return
    cluster_of(job).cancel(job)
    say(f"Cancelled job {job.id}")


def states(job: Job) -> list[State]:
    """Return how each task of a job is."""
    return cluster_of(job).states(job)


def folder_parser(command: str, description: str) -> ArgumentParser:
    """Return a parser of a folder's name."""
    parser = ArgumentParser(prog=f"{program_name()} {command}", description=description)
    parser.add_argument(
        "folder",
        type=str | None,
        nargs="?",
        help="The folder that submit printed, or that of one run of a sweep.",
    )
    return parser


def named_job(options: Any) -> Job:
    """Return the job of the folder that the options name.

    Raises:
        FileNotFoundError: they name none, or one without a job.
    """
    if options.folder is None:
        raise FileNotFoundError("folder: not given; name the one that submit printed")
    return read_job(Path(options.folder))


def last_line(log: Path) -> str:
    """Return the last line of a log that says something of the run."""
    return next((line for line in reversed(last_lines(log)) if not line.startswith(OF_OTHERS)), "")


def error_line(log: Path) -> str | None:
    """Return the last error in a log: a message of metalit, or the end of a traceback; None if there is none."""
    lines = [line for line in last_lines(log) if not line.startswith(OF_OTHERS)]
    return next((line for line in reversed(lines) if ERROR.match(line)), None)


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log that are not empty."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        text = CONTROL.sub("", file.read().decode(errors="replace"))
    return [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]


class LogReader:
    """Prints what is new in some logs, each piece under its run's name if there are several.

    Args:
        tasks: whose logs.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.positions = dict.fromkeys((task.log for task in tasks), 0)
        self.printed: Task | None = None  # the last one of which something was

    def print_new(self) -> None:
        """Print what was written since the last call."""
        for task in self.tasks:
            if not task.log.exists():
                continue
            with task.log.open("rb") as file:
                file.seek(self.positions[task.log])
                new = file.read()
            self.positions[task.log] += len(new)
            if new and len(self.tasks) > 1 and task is not self.printed:
                say(f"\n==> {task.name} <==")
            if new:
                self.printed = task
                sys.stdout.write(new.decode(errors="replace"))
                sys.stdout.flush()
