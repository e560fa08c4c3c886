"""The folder of a run: a new one, and whether this process may write into it."""

import os
from pathlib import Path

import lightning as L


def writable_run_folder(trainer: L.Trainer) -> Path | None:
    """Return the run folder (``default_root_dir``), made if need be; ``None`` if this process is not to write there.

    Rank zero alone writes, and nobody in a ``fast_dev_run``: a single batch must not stand in for a result.
    """
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set outside its class
        return None
    folder = Path(trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def new_folder(path: Path) -> Path:
    """Return ``path``, or with a number behind it if it is there already: two runs may start in the same second."""
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{path.name.partition('~')[0]}~{number}")
    return path


def check_writable(run_dir: Path) -> None:
    """Refuse a run folder in which nothing can be written.

    Raises:
        ValueError: with the folder that forbids it.
    """
    nearest = next(folder for folder in (run_dir.absolute(), *run_dir.absolute().parents) if folder.exists())
    problem = None
    if not nearest.is_dir():
        problem = "is not a folder"
    elif not (nearest.stat().st_mode & 0o222 and os.access(nearest, os.W_OK)):
        problem = "is read-only"
    if problem:
        raise ValueError(
            f"run_dir: {run_dir} cannot be written, for {nearest} {problem}; name another --run_dir"
        )
