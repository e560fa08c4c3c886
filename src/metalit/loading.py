"""A trained learner and its data, from the folder of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from metalit.algorithms import MetaLearner
from metalit.errors import UserError
from metalit.runs import resolve_checkpoint
from metalit.runs.checkpoint_files import check_checkpoint, read_checkpoint
from metalit.runs.random_states import random_states, restore

if TYPE_CHECKING:
    from metalit.data import EpisodicDataModule

CONFIG = "config.yaml"


class LoadedRun(NamedTuple):
    """What ``load`` returns.

    Attributes:
        learner: the learner with its trained weights, on the CPU and in evaluation mode.
        data: the data module that it was trained with; nothing is read from the disk until episodes are asked for.
    """

    learner: MetaLearner
    data: "EpisodicDataModule"


def load(run_dir: str | Path, which: str | Path = "best") -> LoadedRun:
    """Return the learner of a run and its data module.

    Both are made from the settings in ``config.yaml``, without a trainer; the random states of Python, NumPy and torch
    are left as they were. Classes and functions of your own must be importable, as they were in training.

    Args:
        run_dir: the run folder, as ``--run_dir`` names it.
        which: ``best`` or ``last``, the run's own checkpoints, or the path of any checkpoint of the same model.

    Raises:
        FileNotFoundError: there is no such folder, no ``config.yaml`` in it, or no such checkpoint.
        ValueError: the settings cannot be read or name what cannot be imported, or the checkpoint does not fit them.
    """
    folder = Path(run_dir).expanduser()
    settings = read_settings(folder)
    path = find_checkpoint(folder, which)
    states = random_states()
    try:
        made = make(settings, folder / CONFIG)
    finally:
        restore(states)
    check_checkpoint(path, made.learner)
    made.learner.load_state_dict(read_checkpoint(path)["state_dict"])
    made.learner.eval()
    return made


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a run's model and data.

    Raises:
        FileNotFoundError: there is no such folder, or nothing was trained in it.
        ValueError: they are not settings of a run.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"run_dir is {folder}, which {found}; give the folder of a run, as --run_dir names it")
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}, which fit writes; give the folder of a training run")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        model, data = settings["model"], settings["data"]
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise UserError(f"{path} does not hold the settings of a run ({error})") from error
    model.get("init_args", {}).pop("pretrained", None)  # its weights come from the run's own checkpoint
    return {"model": model, "data": data}


def find_checkpoint(folder: Path, which: str | Path) -> str:
    """Return the path of a checkpoint.

    Raises:
        FileNotFoundError: it does not exist; with those that do.
    """
    try:
        path = resolve_checkpoint(str(which), folder, fitting=False)
    except FileNotFoundError:
        there = sorted(str(each) for each in (folder / "checkpoints").glob("*.ckpt"))
        known = f"there are {', '.join(there)}" if there else f"there is none in {folder / 'checkpoints'}"
        raise FileNotFoundError(f"which is {which}, but there is no such checkpoint; {known}") from None
    assert path is not None
    return path


def make(settings: dict[str, Any], path: Path) -> LoadedRun:
    """Return the learner, untrained, and the data module that settings describe.

    Raises:
        ValueError: they name what cannot be imported, or do not fit this version; with the file.
    """
    from metalit.cli.errors import ParsingError, explain, innermost
    from metalit.cli.parser import model_and_data_parser  # not at the top: the command line imports metalit

    parser = model_and_data_parser()
    try:
        made = parser.instantiate_classes(parser.parse_object(settings))
    except ParsingError as error:
        message = explain(str(error), error, parser)
        hint = "; put the folder of your own modules on sys.path" if "there is no class" in message else ""
        raise UserError(f"{path}: {message}{hint}") from error
    except ValueError as error:
        raise innermost(error) from None
    return LoadedRun(made.model, made.data)
