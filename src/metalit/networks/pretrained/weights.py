"""Files of weights: where they are, their checksum, and reading them without executing anything."""

import hashlib
import pickle
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metalit.errors import SettingError, UserError, check
from metalit.tasks.parameters import Params, scope

SAFETENSORS, CHECKPOINT = ".safetensors", ".ckpt"
CHUNK = 1 << 20
NESTED = ("state_dict", "model", "model_state_dict")  # under which training scripts keep the weights


def weights_file(given: str) -> Path:
    """Return the path of a file of weights.

    Args:
        given: a path, or ``package:path`` for a file that an installed package brings; the package is not imported.

    Raises:
        SettingError: there is no such file or no such package.
    """
    package, colon, inside = given.partition(":")
    if colon and package.replace(".", "").isidentifier() and not Path(given).exists():
        spec = find_spec(package) if "." not in package else None
        folders = [] if spec is None else list(spec.submodule_search_locations or ())
        if not folders:
            raise SettingError("weights", given, f"a file of the package {package}, which is not installed: install it")
        path = Path(folders[0]) / inside
    else:
        path = Path(given).expanduser()
    example = f"a folder; that of a run has {path}/checkpoints/best.ckpt" if path.is_dir() else "none"
    check("weights", given, path.is_file(), f"a file; {path} is {example}")
    return path


def checked_sha256(path: Path, expected: str | None) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        SettingError: it differs from ``expected``.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    found = digest.hexdigest()
    if expected is not None and found != expected.lower():
        raise SettingError("sha256", expected, f"{found}, that of {path}: it is another file, or a damaged one")
    return found


def tensors_sha256(network: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers with their names, dtypes and shapes, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        digest.update(f"\n{name} {value.dtype} {list(value.shape)} ".encode())
        # as bytes, since NumPy has no bfloat16
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file, or of one that torch has saved, by name.

    Raises:
        UserError: the file cannot be read, or holds more than tensors.
    """
    if path.suffix == SAFETENSORS:
        return read_safetensors(path)
    found = read_file(path)
    nested = [found[name] for name in NESTED if isinstance(found, dict) and isinstance(found.get(name), dict)]
    state = nested[0] if nested else found
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"weights: {path} holds no tensors by name, as a state_dict does")
    return state


def read_file(path: Path) -> Any:
    """Return what torch has saved in a file, without executing code.

    Raises:
        UserError: the file cannot be read, or holds more than tensors, numbers and text.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"weights: {path} is not a file of weights alone ({reason})") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file by name.

    Raises:
        ImportError: safetensors is not installed.
        UserError: the file cannot be read.
    """
    try:
        safetensors = import_module("safetensors")
        load_file = import_module("safetensors.torch").load_file
    except ImportError as error:
        raise ImportError(f"{path} needs safetensors: pip install 'metalit[vision]'") from error
    try:
        return load_file(path)  # type: ignore[no-any-return]
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"weights: {path} is not a safetensors file ({error})") from error


def load_weights(network: nn.Module, path: Path, removed: Sequence[str]) -> None:
    """Copy the tensors of a file into a network. Parts in ``removed`` may be in the file and are left out.

    Raises:
        UserError: the file lacks something, has something else, or other shapes.
    """
    prefixes = tuple(f"{name}." for name in removed)
    found = {name: value for name, value in read_weights(path).items() if not name.startswith(prefixes)}
    fill(network, found, path, "; parts that are not wanted, such as a classifier, are named by ``remove``")


def load_trained(network: nn.Module, path: Path) -> None:
    """Copy the ``network`` of a learner's checkpoint, or the tensors of another file of weights, into a network.

    Raises:
        UserError: the file lacks something, has something else, or other shapes.
    """
    found = read_weights(path)
    fill(network, scope(found, "network") if path.suffix == CHECKPOINT else found, path)


def fill(network: nn.Module, found: Params, path: Path, hint: str = "") -> None:
    """Copy tensors from a file, by name, into a network.

    Raises:
        UserError: something is missing, or there is something else, or a shape differs; the message ends in ``hint``.
    """
    wanted = network.state_dict()
    # files of before torch 0.4.1 have no counters, which evaluation does not use
    counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
    found = {**counters, **found}
    for name in [*wanted, *found]:
        theirs, ours = (f"of shape {list(of[name].shape)}" if name in of else "not there" for of in (found, wanted))
        if theirs != ours:
            raise UserError(
                f"weights: {path} does not fit {type(network).__name__}: {name} is {theirs} in the file and {ours} in "
                f"the network{hint}"
            )
    network.load_state_dict(found)
