"""Versions of the software and the code that a run used."""

import os
import platform
import subprocess
from pathlib import Path

import lightning as L
import torch

import metalit

COMMIT_VARIABLE = "METALIT_COMMIT"  # for a job that runs a copy of the code: the commit that was copied
CHANGED = "-dirty"  # suffix of a commit if files differed from it, as in ``git describe``
PATIENCE = 5.0  # seconds allowed for git, which may have to scan a large folder on a slow disk


def software_versions() -> dict[str, str]:
    """Return the versions of metalit, torch, Lightning and Python, on which a result depends."""
    return {
        "metalit": metalit.__version__,
        "torch": str(torch.__version__),
        "lightning": L.__version__,
        "python": platform.python_version(),
    }


def code_version(folder: Path) -> dict[str, str | bool]:
    """Return the software versions, the git ``commit`` and whether files differ from it (``dirty``).

    The commit is taken from ``METALIT_COMMIT``, else from ``folder``. Both entries are left out if git gives no answer:
    outside a repository, without git installed, or if git takes too long.
    """
    commit = os.environ.get(COMMIT_VARIABLE)  # its suffix says whether files differ
    if not commit:
        commit = git(folder, "rev-parse", "HEAD", patience=PATIENCE)
        if not commit:
            return {**software_versions()}
        if git(folder, "status", "--porcelain", patience=PATIENCE) != "":
            commit += CHANGED
    return {**software_versions(), "commit": commit.removesuffix(CHANGED), "dirty": commit.endswith(CHANGED)}


def git(folder: Path, *command: str, patience: float | None = None) -> str | None:
    """Return the output of a git command in a folder; None if it fails or takes longer than ``patience`` seconds.

    It fails without git, outside a repository, and without a commit.
    """
    # many jobs may ask at once, and git status would lock the index
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=patience, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")
