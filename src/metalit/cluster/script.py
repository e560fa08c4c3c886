"""The script of a job: one for all tasks, readable, and usable by hand."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metalit.cluster.base import CODE, CONFIG, EXIT_CODE, Cluster
from metalit.runs.versions import COMMIT_VARIABLE


class Work(NamedTuple):
    """The contents of a job's script.

    Attributes:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        checkpoint: the checkpoint from which the first start of a training resumes, or which is evaluated; None for
            none.
        then_test: whether to test the best checkpoint after the training.
        folder: folder of the job's script, code and logs: the run folder, or the sweep's.
        points: names of the runs of a sweep, each with a folder of its own; None for a single run.
        program: the program to run, in the copy of the code; None for the module ``metalit``.
        paths: folders from which modules are imported, in the copy of the code.
        directory: folder to which relative paths refer.
        version: commit of the code, marked if there were changes; None if it is not known.
    """

    command: str
    checkpoint: str | None
    then_test: bool
    folder: Path
    points: Sequence[str] | None
    program: Path | None
    paths: Sequence[Path]
    directory: Path
    version: str | None = None


def job_script(cluster: Cluster, work: Work) -> str:
    """Return the text of a job's script."""
    count = None if work.points is None else len(work.points)
    sections = [
        ["#!/bin/bash", *cluster.header(work.folder.name, work.folder / "logs", count)],
        [f"job={quoted(work.folder)}", *which_run(cluster, work)],
        [
            "set -e  # what fails ends the job",
            # A start that is killed must not leave the exit code of the start before it.
            f'rm -f "$run/{EXIT_CODE}"',
            f"trap 'echo $? >\"$run/{EXIT_CODE}\"' EXIT",
            "trap : TERM  # whoever is asked to end sends this to the run too: wait until that has saved",
        ],
        environment(cluster, work),
        run(cluster, work),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def which_run(cluster: Cluster, work: Work) -> list[str]:
    """Return the lines that set ``run`` to the run folder of the task."""
    if work.points is None:
        return ["run=$job"]
    return [
        "points=(",
        *(f"  {quoted(name)}" for name in work.points),
        ")",
        f'run="$job/${{points[{cluster.task}]}}"',
    ]


def environment(cluster: Cluster, work: Work) -> list[str]:
    """Return the lines that set up the run's environment."""
    paths = ":".join(in_code(path) for path in work.paths)
    lines = [
        f"cd {quoted(work.directory)}",
        *cluster.setup,
        "# modules come from the copy of the code, not from the working directory",
        f"export PYTHONSAFEPATH=1 PYTHONPATH={paths}${{PYTHONPATH:+:$PYTHONPATH}}",
        "export PYTHONUNBUFFERED=1  # the log is up to date",
    ]
    if work.version is not None:
        lines.append(f"export {COMMIT_VARIABLE}={quoted(work.version)}  # git would tell that of the directory")
    if work.points is not None:
        # W&B shows the runs of a sweep as one group.
        lines.append(f"export WANDB_RUN_GROUP={quoted(work.folder.name)}")
    return lines


def run(cluster: Cluster, work: Work) -> list[str]:
    """Return the lines that run the command, and the test after it."""
    program = "-m metalit" if work.program is None else in_code(work.program)
    python = f"{cluster.python_command()} {program}"

    def line(command: str, checkpoint: str | None) -> str:
        ending = "" if checkpoint is None else f" --ckpt_path {checkpoint}"
        return f'{cluster.launcher()}{python} {command} --config "$run/{CONFIG}" --run_dir "$run"{ending}'

    first = None if work.checkpoint is None else quoted(work.checkpoint)
    # An evaluation saves no state: a job that is queued again repeats it.
    if work.command != "fit":
        return [line(work.command, first)]
    lines = []
    if first not in (None, "last"):
        # A checkpoint of the user's is for the first start; a job that is queued again must resume from its own.
        lines += ["from=last", f'[ -e "$run/checkpoints/last.ckpt" ] || from={first}']
    # "last" does not exist at the first start, which begins from scratch; every later start resumes from it.
    lines.append(line("fit", '"$from"' if lines else "last"))
    return [*lines, line("test", "best")] if work.then_test else lines


def in_code(path: Path) -> str:
    """Return the path of a file in the copy of the code, quoted for the shell."""
    # In double quotes, so that the shell expands $job; it would interpret these four characters too.
    name = re.sub(r'([\\"$`])', r"\\\1", str(Path(CODE) / path))
    return f'"$job/{name}"'


def quoted(word: object) -> str:
    """Return a word quoted for the shell."""
    return shlex.quote(str(word))
