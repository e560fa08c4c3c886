"""What code a run was made with."""

import os
import platform
import subprocess
from pathlib import Path

import lightning as L
import torch

import metalit

COMMIT_VARIABLE = "METALIT_COMMIT"  # for a job that runs a copy of the code: what the copy was made of
CHANGED = "-dirty"  # follows the name of a commit if files differed from it, as in ``git describe``
PATIENCE = 5.0  # seconds for git, which may have to look through a large folder on a slow disk


def software_versions() -> dict[str, str]:
    """Return the versions that a result depends on: metalit, torch, lightning and python."""
    return {
        "metalit": metalit.__version__,
        "torch": str(torch.__version__),
        "lightning": L.__version__,
        "python": platform.python_version(),
    }


def code_version(folder: Path) -> dict[str, str | bool]:
    """Return the versions, the git ``commit`` and whether files differ from it (``dirty``).

    The commit is what ``METALIT_COMMIT`` says, else that of ``folder``. It is left out where git does not tell: outside
    a repository, without git, or if it takes too long.
    """
    commit = os.environ.get(COMMIT_VARIABLE) or _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {**software_versions()}
    dirty = commit.endswith(CHANGED) or (
        COMMIT_VARIABLE not in os.environ and _git(folder, "status", "--porcelain") != ""
    )
    return {**software_versions(), "commit": commit.removesuffix(CHANGED), "dirty": dirty}


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *command],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # many jobs may ask at the same moment
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
