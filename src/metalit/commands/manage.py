"""``status``, ``logs`` and ``cancel``: the state of a job, its logs and its end, by the name of its folder."""

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

TAIL = 2**16  # bytes at the end of a log that are searched for the last line
# Lines that follow a failure without naming its cause: SLURM's, and those of ranks that end with a failed one.
OF_OTHERS = ("srun: ", "slurmstepd: ", LOST_RANK, "error: the process ")
# metalit's own message, or the last line of a traceback, which torch may prefix with the rank.
ERROR = re.compile(r"error: |(\[rank\d+\]: )?[A-Za-z_][\w.]*(Error|Exception|Interrupt)\b")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and cursor movements
INTERVAL = 0.3  # seconds between two reads of a log
PATIENCE = 20  # reads between two queries of the job's state, which are a load on the cluster's controller


def status(args: Sequence[str]) -> None:
    """Run the command ``status``: print one line for each run of a job."""
    parser = folder_parser(
        "status",
        "Say how a job is: state, exit code of the last start, last line of the log or the error in it.",
    )
    job = named_job(parser.parse_args(list(args)))
    rows = [("run", "job", "state", "exit code", "last line")]
    for task, state in zip(job.tasks, states(job), strict=True):
        code = task.exit_code()
        name = task.name or task.folder.name
        # After a failure the last line is seldom the cause.
        says = error_line(task.log) if state.word == "FAILED" else None
        rows.append((name, task.id, state.word, "" if code is None else str(code), says or last_line(task.log)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def logs(args: Sequence[str]) -> None:
    """Run the command ``logs``: print the logs of a job's runs; with ``--follow``, until the job ends."""
    parser = folder_parser("logs", "Print the log of a job; of a sweep, those of all its runs.")
    parser.add_argument(
        "--follow", type=bool, default=False, help="Go on until the job ends; Ctrl-C ends this, not the job."
    )
    # jsonargparse's booleans need a value.
    arguments = [*args, "true"] if args[-1:] == ["--follow"] else list(args)
    options = parser.parse_args(arguments)
    job = named_job(options)
    reader = LogReader(job.tasks)
    # Asked before the logs are read, so that the last output of a job that ends in between is not missed.
    is_over = all(state.over for state in states(job))
    reader.print_new()
    if not (options.follow or reader.printed):
        say(f"There is no log yet: job {job.id} is {states(job)[0].word}")
    if options.follow and not is_over:
        with suppress(KeyboardInterrupt):
            follow(job, reader)


def follow(job: Job, reader: "LogReader") -> None:
    """Print new output of the logs until the job has ended."""
    for look in itertools.count(1):
        time.sleep(INTERVAL)
        is_over = look % PATIENCE == 0 and all(state.over for state in states(job))
        reader.print_new()  # after the query, so that the last output is not missed
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
    """Return the state of each task of a job."""
    return cluster_of(job).states(job)


def folder_parser(command: str, description: str) -> ArgumentParser:
    """Return a parser for a command that takes a folder."""
    parser = ArgumentParser(prog=f"{program_name()} {command}", description=description)
    parser.add_argument(
        "folder",
        type=str | None,
        nargs="?",
        help="The folder that submit printed, or that of one run of a sweep.",
    )
    return parser


def named_job(options: Any) -> Job:
    """Return the job of the folder given on the command line.

    Raises:
        FileNotFoundError: no folder was given, or there is no job in it.
    """
    if options.folder is None:
        raise FileNotFoundError("folder: not given; name the one that submit printed")
    return read_job(Path(options.folder))


def last_line(log: Path) -> str:
    """Return the last line of a log that is the run's own, or an empty string."""
    return next((line for line in reversed(last_lines(log)) if not line.startswith(OF_OTHERS)), "")


def error_line(log: Path) -> str | None:
    """Return the last error in a log, a message of metalit or the end of a traceback; None if there is none."""
    lines = [line for line in last_lines(log) if not line.startswith(OF_OTHERS)]
    return next((line for line in reversed(lines) if ERROR.match(line)), None)


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log, without empty ones."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        text = CONTROL.sub("", file.read().decode(errors="replace"))
    # Progress bars end their updates with a carriage return: each update is a line of its own.
    return [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]


class LogReader:
    """Prints new output of logs; if there are several, each piece under the name of its run.

    Args:
        tasks: tasks whose logs to read.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.positions = dict.fromkeys((task.log for task in tasks), 0)
        self.printed: Task | None = None  # the task that was printed last

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
