"""Checkpoint files: written atomically, read without executing code, and found by name."""

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
from metalit.files import atomic_write, flush_to_disk

KEYWORDS = ("best", "last")
PREVIOUS = "previous"  # the last.ckpt before the current one
FOLDER = "checkpoints"  # within a run folder


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name and renames it once it is complete and on disk.

    However a process ends, the file under the final name is complete: either the new one or the one before. The old
    ``last.ckpt`` is kept as ``previous.ckpt``, in case the disk loses data that it has acknowledged.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; the message of an error says which checkpoint is left to resume from."""
        path = Path(path)
        # through memory: when torch writes the file itself, it hides the operating system's error
        content = BytesIO()
        torch.save(checkpoint, content)
        try:
            # left behind if an earlier process was killed while it wrote; a run has only one that writes
            for unfinished in path.parent.glob(f".{path.name}.*"):
                unfinished.unlink()
            with atomic_write(path) as file:
                file.write(content.getbuffer())
                flush_to_disk(file)  # before last.ckpt is moved: at any time one of the two files is complete
                # a damaged last.ckpt must not replace a good previous.ckpt
                if path.stem == "last" and zipfile.is_zipfile(path):
                    path.replace(path.with_stem(PREVIOUS))
        except OSError as error:
            # last.ckpt may have been renamed to previous.ckpt already
            left = [each for each in (path, path.with_stem("last"), path.with_stem(PREVIOUS)) if each.exists()]
            remains = f"{left[0]} is as it was" if left else "there is no earlier one"
            raise OSError(f"{path} could not be written ({error.strerror}); {remains}") from error


def is_intact(path: Path) -> bool:
    """Whether the checksums of a checkpoint, which is a zip archive, match its content."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError):
        return False


def resolve_checkpoint(asked: str | None, run_dir: Path, *, fitting: bool) -> str | None:
    """Return the path of a checkpoint, or None to start from scratch.

    A missing or damaged ``last`` falls back to ``previous``, with a warning.

    Args:
        asked: a path, or ``best`` or ``last`` for the run folder's own, or None for no checkpoint.
        run_dir: the run folder.
        fitting: for training: a ``last`` that does not exist yet means a start from scratch, not an error.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        UserError: ``last`` is damaged and there is no ``previous``.
    """
    if asked is None:
        return None
    path = run_dir / FOLDER / f"{asked}.ckpt" if asked in KEYWORDS else Path(asked)
    if asked == "last" and not is_intact(path):
        previous = path.with_stem(PREVIOUS)
        if previous.is_file():  # also if last.ckpt is missing: a process killed between the two renames leaves none
            damage = "is damaged" if path.exists() else "is missing"
            rank_zero_warn(f"{path} {damage}: going on from {previous}, the one before it")
            return str(previous)
        if path.is_file():
            raise UserError(_damaged(path))
        if fitting:
            return None
    if not path.is_file():
        raise FileNotFoundError(
            f"ckpt_path is {asked}, but there is no checkpoint {path}: give --ckpt_path a file, or best or last "
            "with --run_dir"
        )
    return str(path)


def _damaged(last: Path) -> str:
    best = last.with_stem("best")
    damage = "is damaged" if last.stat().st_size else "is empty"
    remedy = f"go on from the best, --ckpt_path {best}, or remove {last}" if is_intact(best) else "remove it"
    return f"{last} {damage}, and there is no {PREVIOUS}.ckpt to go on from: {remedy} to start from the beginning"


def check_checkpoint(path: str | None, model: nn.Module) -> None:
    """Refuse a checkpoint that cannot be read safely or does not fit the algorithm and parameters of ``model``.

    Raises:
        UserError: the message names the two algorithms, the first differences, or why the file cannot be read.
    """
    if path is None:
        return
    checkpoint = read_checkpoint(path)
    check_algorithm(checkpoint, model, path)
    found, expected = checkpoint["state_dict"], model.state_dict()
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
    """Return the content of a checkpoint, with a dictionary as its ``state_dict``, without executing code in it."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        # a file without a state_dict fails here, with the message for foreign files
        return {**checkpoint, "state_dict": dict(checkpoint["state_dict"])}
    except Exception as error:  # arbitrary bytes can make the reader fail in any way
        # torch raises the same error for damaged bytes and for objects that weights_only does not allow
        if isinstance(error, pickle.UnpicklingError) and is_intact(Path(path)):
            raise UserError(
                f"ckpt_path is {path}, which holds more than tensors, numbers and text; reading it could execute "
                "anybody's code, so it is refused; ask its author for a file of its state_dict"
            ) from error
        raise UserError(
            f"ckpt_path is {path}, which is not a checkpoint of metalit, or is damaged ({type(error).__name__}); "
            "give another one, such as last or best with --run_dir"
        ) from error
