"""The script of a job: one for all tasks, readable, and usable by hand."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from metalit.cluster.base import CODE, CONFIG, EXIT_CODE, Cluster
from metalit.cluster.snapshot import Code
from metalit.runs.versions import CHANGED, COMMIT_VARIABLE


def job_script(
    cluster: Cluster,
    code: Code,
    folder: Path,
    points: Sequence[str],
    command: str,
    checkpoint: str | None,
    then_test: bool,
) -> str:
    """Return the text of a job's script; ``points`` are the names of a sweep's runs, none for a single run."""
    which_run = ["run=$job"]
    variables = ["export PYTHONUNBUFFERED=1  # the log is up to date"]
    if code.commit is not None:
        version = quoted(code.commit + CHANGED * bool(code.changed))
        variables.append(f"export {COMMIT_VARIABLE}={version}  # git would report that of the working directory")
    if points:
        which_run = ["points=(", *(f"  {quoted(name)}" for name in points), ")"]
        which_run.append(f'run="$job/${{points[{cluster.task}]}}"')
        # W&B shows the runs of a sweep as one group.
        variables.append(f"export WANDB_RUN_GROUP={quoted(folder.name)}")
    paths = ":".join(in_code(path) for path in code.import_paths())
    program = code.program()
    # The user's command may have several words, such as "apptainer exec IMAGE python", so only our path is quoted.
    python = f"{cluster.python or quoted(sys.executable)} {'-m metalit' if program is None else in_code(program)}"
    sections = [
        ["#!/bin/bash", *cluster.header(folder, len(points) or None)],
        [f"job={quoted(folder)}", *which_run],
        [
            "set -e  # what fails ends the job",
            # A start that is killed must not leave the exit code of the start before it.
            f'rm -f "$run/{EXIT_CODE}"',
            f"trap 'echo $? >\"$run/{EXIT_CODE}\"' EXIT",
            "trap : TERM  # the run receives this signal too: wait until it has saved",
        ],
        [
            f"cd {quoted(Path.cwd())}",
            *cluster.setup,
            "# modules come from the copy of the code, not from the working directory",
            f"export PYTHONSAFEPATH=1 PYTHONPATH={paths}${{PYTHONPATH:+:$PYTHONPATH}}",
            *variables,
        ],
        run_lines(cluster.launcher + python, command, checkpoint, then_test),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def run_lines(program: str, command: str, checkpoint: str | None, then_test: bool) -> list[str]:
    """Return the lines that run the command, and the test after it."""

    def line(command: str, *checkpoint: str) -> str:
        return " ".join([program, command, f'--config "$run/{CONFIG}" --run_dir "$run"', *checkpoint])

    given = [] if checkpoint is None else [f"--ckpt_path {quoted(checkpoint)}"]
    # An evaluation saves no state: a job that is queued again repeats it.
    if command != "fit":
        return [line(command, *given)]
    if checkpoint in (None, "last"):
        # "last" does not exist at the first start, which begins from scratch; every later start resumes from it.
        lines = [line("fit", "--ckpt_path last")]
    else:
        # A checkpoint of the user's is for the first start; a job that is queued again must resume from its own.
        first = f'[ -e "$run/checkpoints/last.ckpt" ] || from={quoted(checkpoint)}'
        lines = ["from=last", first, line("fit", '--ckpt_path "$from"')]
    return [*lines, line("test", "--ckpt_path best")] if then_test else lines


def in_code(path: Path) -> str:
    """Return the path of a file in the copy of the code, quoted for the shell."""
    # In double quotes, so that the shell expands $job; it would interpret these four characters too.
    name = re.sub(r'([\\"$`])', r"\\\1", str(Path(CODE) / path))
    return f'"$job/{name}"'


def quoted(word: object) -> str:
    """Return a word quoted for the shell."""
    return shlex.quote(str(word))
