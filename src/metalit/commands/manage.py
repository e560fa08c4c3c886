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
from metalit.cli.plain import PlainParser
from metalit.cli.program import program_name
from metalit.cluster.base import Job, State, Task, cluster_of, exit_code, read_job

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
    description = (
        "Show the state of each run, the exit code of its last start, and its last line or the error in its log."
    )
    job = read_job(folder_of(folder_parser("status", description).parse_args(list(args))))
    rows = [("run", "job", "state", "exit code", "last line")]
    for task, state in zip(job.tasks, states(job), strict=True):
        code = exit_code(task.folder)
        lines = last_lines(task.log)
        # After a failure the last line is seldom the cause.
        line = (error_line(lines) if state.word == "FAILED" else "") or (lines[-1] if lines else "")
        rows.append((task.name or task.folder.name, task.id, state.word, "" if code is None else str(code), line))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def logs(args: Sequence[str]) -> None:
    """Run the command ``logs``: print the logs of a job's runs; with ``--follow``, until the job ends."""
    parser = folder_parser("logs", "Print the log of a job; of a sweep, those of all its runs.")
    until_end = "Go on until the job ends; Ctrl-C ends this, not the job."
    parser.add_argument("--follow", type=bool, default=False, help=until_end)
    # jsonargparse's booleans need a value.
    options = parser.parse_args([*args, "true"] if args[-1:] == ["--follow"] else list(args))
    job = read_job(folder_of(options))
    reader = LogReader(job.tasks)
    with suppress(KeyboardInterrupt):
        for look in itertools.count():
            # Asked before the logs are read, so that the last output of a job that ends in between is not missed.
            is_last = not options.follow or (look % PATIENCE == 0 and has_ended(job))
            reader.print_new()
            if is_last:
                break
            time.sleep(INTERVAL)
    if not (options.follow or reader.printed):
        say(f"There is no log yet: job {job.id} is {states(job)[0].word}")


def cancel(args: Sequence[str]) -> None:
    """Run the command ``cancel``: end a job, or one run of a sweep."""
    parser = folder_parser("cancel", "End a job. Its runs save first; fit --ckpt_path last goes on with them.")
    job = read_job(folder_of(parser.parse_args(list(args))))
    if has_ended(job):
        say(f"Job {job.id} had ended already")
        return
    cluster_of(job).cancel(job)
    say(f"Cancelled job {job.id}")


def states(job: Job) -> list[State]:
    """Return the state of each task of a job."""
    return cluster_of(job).states(job)


def has_ended(job: Job) -> bool:
    """Whether all tasks of a job have ended."""
    return all(state.ended for state in states(job))


def folder_parser(command: str, description: str) -> PlainParser:
    """Return a parser for a command that takes a folder."""
    parser = PlainParser(prog=f"{program_name()} {command}", description=description)
    folder = "The folder that submit printed, or that of one run of a sweep."
    parser.add_argument("folder", type=str | None, nargs="?", help=folder)
    return parser


def folder_of(options: Any) -> Path:
    """Return the folder given on the command line; refuse a command line without one."""
    if options.folder is None:
        raise FileNotFoundError("folder: not given; name the one that submit printed")
    return Path(options.folder)


def error_line(lines: Sequence[str]) -> str:
    """Return the last of a log's lines that is an error, metalit's message or the end of a traceback; else nothing."""
    return next((line for line in reversed(lines) if ERROR.match(line)), "")


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log that are the run's own, without empty ones."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        text = CONTROL.sub("", file.read().decode(errors="replace"))
    # Progress bars end their updates with a carriage return: each update is a line of its own.
    lines = [line.strip() for line in re.split(r"[\r\n]", text)]
    return [line for line in lines if line and not line.startswith(OF_OTHERS)]


class LogReader:
    """Prints new output of logs; if there are several, each piece under the name of its run."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.positions = dict.fromkeys(tasks, 0)
        self.printed: Task | None = None  # the task that was printed last

    def print_new(self) -> None:
        """Print what was written since the last call."""
        for task, position in self.positions.items():
            if not task.log.exists():
                continue
            with task.log.open("rb") as file:
                file.seek(position)
                new = file.read()
            self.positions[task] += len(new)
            if new and len(self.positions) > 1 and task is not self.printed:
                say(f"\n==> {task.name} <==")
            if new:
                self.printed = task
                say(new.decode(errors="replace"), end="")


def say(text: str, end: str = "\n") -> None:
    """Print text unchanged, and flush it."""
    sys.stdout.write(text + end)
    sys.stdout.flush()
