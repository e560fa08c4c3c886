"""Checkpoint files: written whole or not at all, read without executing anything, and found by name."""

import os
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from metalit.algorithms.pretrained import check_algorithm
from metalit.errors import UserError

KEYWORDS = ("best", "last")
PREVIOUS = "previous"  # what last was before it was written anew
FOLDER = "checkpoints"  # within a run folder


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is complete and on the disk.

    However a process ends, a file of that name is complete: the new one or the one before. What ``last.ckpt`` was is
    kept as ``previous.ckpt``, in case the disk loses what it has acknowledged.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it could not be written, with the reason and what is left.
        """
        path = Path(path)
        content = BytesIO()  # torch hides what the operating system says of a file that it writes itself
        torch.save(checkpoint, content)
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_through(unfinished, content.getbuffer())
            if path.stem == "last" and zipfile.is_zipfile(path):
                path.replace(path.with_stem(PREVIOUS))
            unfinished.replace(path)
            flush_folder(path.parent)
        except OSError as error:
            raise OSError(f"{path} could not be written ({error.strerror}); {what_is_left(path)}") from error
        finally:
            remove_if_possible(unfinished)


def write_through(path: Path, content: memoryview) -> None:
    """Write a file, and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the disk has the names of a folder's files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_if_possible(path: Path) -> None:
    """Remove a file if it is there and the disk lets us; an error on the way here tells more than this one would."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def what_is_left(path: Path) -> str:
    """Say what a run can go on from after a failure to write ``path``."""
    left = next((p for p in (path, path.with_stem("last"), path.with_stem(PREVIOUS)) if p.exists()), None)
    return "there is no earlier one" if left is None else f"{left} is as it was"


def is_intact(path: Path) -> bool:
    """Whether every byte of a checkpoint is as it was written, by the checksums in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError):
        return False


def resolve_checkpoint(asked: str | None, run_dir: Path, *, fitting: bool) -> str | None:
    """Return the checkpoint's path.

    A damaged ``last`` is replaced by the one before it, with a warning.

    Args:
        asked: a path, or ``best`` or ``last`` for the run folder's own, or None.
        run_dir: the run folder.
        fitting: then a ``last`` that does not exist yet means a start from the beginning.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the last one is damaged, and there is none before it.
    """
    if asked is None:
        return None
    path = run_dir / FOLDER / f"{asked}.ckpt" if asked in KEYWORDS else Path(asked)
    previous = path.with_stem(PREVIOUS)
    if asked == "last" and previous.is_file() and not is_intact(path):
        found = "is damaged" if path.exists() else "is missing"
        rank_zero_warn(f"{path} {found}: going on from {previous}, the one before it")
        return str(previous)
    if path.is_file():
        if asked == "last" and not is_intact(path):
            raise UserError(what_to_do_without(path))
        return str(path)
    if fitting and asked == "last":
        return None
    raise FileNotFoundError(
        f"ckpt_path is {asked}, but there is no checkpoint {path}: give --ckpt_path a file, or best or last "
        "with --run_dir"
    )


def what_to_do_without(last: Path) -> str:
    """Say how to go on if ``last.ckpt`` is damaged and there is none before it."""
    size, best = last.stat().st_size, last.with_stem("best")
    damage = "is damaged" if size else "is empty"
    if is_intact(best):
        remedy = f"go on from the best, --ckpt_path {best}, or remove {last} to start from the beginning"
    else:
        remedy = "remove it to start from the beginning"
    return f"{last} {damage}, and there is no {PREVIOUS}.ckpt to go on from: {remedy}"


def check_checkpoint(path: str | None, model: nn.Module) -> None:
    """Refuse a checkpoint that cannot be read safely, or is of another method or of other parameters than ``model``.

    Raises:
        ValueError: with the methods, the first differences, or why it cannot be read.
    """
    if path is None:
        return
    checkpoint = read_checkpoint(path)
    check_algorithm(checkpoint, model, path)
    found = checkpoint["state_dict"]
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is not in this model" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} is {list(found[name].shape)}, but {list(value.shape)} here"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more differences)" if len(problems) > 3 else ""
        raise UserError(
            f"ckpt_path is {path}, which does not fit the model of this configuration: "
            f"{'; '.join(sorted(problems)[:3])}{more}; give the configuration it was trained with (config.yaml in its "
            "run folder)"
        )


def read_checkpoint(path: str) -> dict[str, Any]:
    """Return what is in a checkpoint, without executing anything that it may hold.

    Raises:
        ValueError: with why it cannot be read.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        return {**checkpoint, "state_dict": dict(checkpoint["state_dict"])}
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path) or not is_intact(Path(path)):
            raise _unreadable(path, error) from error
        raise UserError(
            f"ckpt_path is {path}, which holds more than tensors, numbers and text; reading it could execute anybody's "
            "code, so it is refused; ask its author for a file of its state_dict"
        ) from error
    except Exception as error:  # the reader meets arbitrary bytes, and fails in as many ways
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ValueError:
    return ValueError(
        f"ckpt_path is {path}, which is not a checkpoint of metalit, or is damaged ({type(error).__name__}); "
        "give another one, such as last or best with --run_dir"
    )


def keep_old(path: Path) -> None:
    """Give an existing file a numbered name, so that a new one loses nothing."""
    if path.exists():
        number = 1
        while (kept := path.with_stem(f"{path.stem}-{number}")).exists():
            number += 1
        path.rename(kept)
