"""Load a trained learner and its data module from a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from torch import nn

from metalit.algorithms import MetaLearner
from metalit.errors import UserError
from metalit.runs import resolve_checkpoint
from metalit.runs.checkpoint_files import check_checkpoint, read_checkpoint
from metalit.runs.random_states import random_states, restore

if TYPE_CHECKING:
    from metalit.data import EpisodicDataModule

CONFIG = "config.yaml"
OF_TRAINING = ("optimizer", "lr_scheduler", "lr_scheduler_interval", "pretrained")  # settings that no prediction needs


class LoadedRun(NamedTuple):
    """A learner and its data module, as ``load`` returns them.

    Attributes:
        learner: the learner with its trained weights, on the CPU and in evaluation mode.
        data: the data module of the training; it reads nothing from disk until episodes are requested.
    """

    learner: MetaLearner
    data: "EpisodicDataModule"


def load(run_dir: str | Path, which: str | Path = "best") -> LoadedRun:
    """Return the trained learner of a run and its data module.

    Both are built from the settings in ``config.yaml``, without a trainer. The random states of Python, NumPy and torch
    stay as they were. Your own classes and functions must be importable, as they were during training.

    Args:
        run_dir: the run folder, as given to ``--run_dir``.
        which: ``best`` or ``last`` for the run's own checkpoints, or the path of any checkpoint of the same model. A
            learner in which nothing is trained needs none: ``best`` is then the learner as its settings make it.

    Raises:
        FileNotFoundError: the folder, its ``config.yaml`` or the checkpoint does not exist.
        ValueError: the settings cannot be read or name something that cannot be imported, or the checkpoint does not
            match the model.
    """
    folder = Path(run_dir).expanduser()
    settings = read_settings(folder)
    from metalit.data import ClassificationDataModule  # would be circular at the top, as in ``make``

    path, missing = None, None
    try:
        path = find_checkpoint(folder, which)
    except FileNotFoundError as error:
        if which != "best":
            raise
        missing = error  # no mistake if there is nothing to train, which only the learner knows
    # initialising the networks draws from the global generators of the calling program
    states = random_states()
    try:
        made = make(settings, folder / CONFIG)
    finally:
        restore(states)
    if missing is not None and made.learner.has_trained_parameters():
        raise missing
    if path is None:
        made.learner.eval()
        return made
    # load_state_dict alone would accept another algorithm with the same networks
    check_checkpoint(path, made.learner)
    checkpoint = read_checkpoint(path)
    made.learner.load_state_dict(checkpoint["state_dict"])
    made.data.take_over(checkpoint)
    if isinstance(made.data, ClassificationDataModule):
        made.data.check_features(checkpoint.get(type(made.data).__qualname__, {}))
    made.learner.eval()
    return made


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the model and data settings of a run.

    Raises:
        FileNotFoundError: the folder does not exist, or no training has run in it.
        UserError: ``config.yaml`` does not hold the settings of a run.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"run_dir is {folder}, which {found}; give the folder of a run, as --run_dir names it")
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {CONFIG}, which fit writes, and test if the method has nothing to train; give the folder "
            "of such a run"
        )
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        model, data = settings["model"], settings["data"]
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise UserError(f"{path} does not hold the settings of a run ({error})") from error
    # the weights come from the run's own checkpoint, so nothing pretrained has to be read
    model.get("init_args", {}).pop("pretrained", None)
    return {"model": model, "data": data}


def find_checkpoint(folder: Path, which: str | Path) -> str:
    """Return the path of a checkpoint.

    Raises:
        FileNotFoundError: it does not exist; the message lists the run's checkpoints.
    """
    try:
        # not fitting: a missing ``last`` is an error here, not a start from scratch
        path = resolve_checkpoint(str(which), folder, fitting=False)
    except FileNotFoundError:
        there = sorted(str(each) for each in (folder / "checkpoints").glob("*.ckpt"))
        known = f"there are {', '.join(there)}" if there else f"there is none in {folder / 'checkpoints'}"
        raise FileNotFoundError(f"which is {which}, but there is no such checkpoint; {known}") from None
    assert path is not None
    return path


def make(settings: dict[str, Any], path: Path) -> LoadedRun:
    """Return the untrained learner and the data module that the settings describe.

    Raises:
        ValueError: the settings name something that cannot be imported, or do not fit this version of metalit; the
            message names the file.
    """
    # imported here: the command line imports metalit, so an import at the top would be circular
    from metalit.cli.parser import model_and_data_parser

    with explained(parser := model_and_data_parser(), path):
        made = parser.instantiate(parser.parse_object(settings))
    return LoadedRun(made.model, made.data)


def resolved_parts(run_dir: str | Path) -> dict[str, Any]:
    """Return the settings of what predicts in a run: ``model``, and ``features`` (None if the data have none).

    Training settings are left out, and the ways of the data are filled in. ``make_parts`` builds them again.

    Raises:
        FileNotFoundError: the folder is not that of a run.
        ValueError: the settings cannot be read.
    """
    from metalit.cli.parser import model_and_data_parser

    folder = Path(run_dir).expanduser()
    settings = read_settings(folder)
    with explained(parser := model_and_data_parser(), folder / CONFIG):
        resolved = parser.parse_object(settings).as_dict()
    model, data = resolved["model"], resolved["data"]["init_args"]
    for name in OF_TRAINING:
        model["init_args"].pop(name, None)
    return {"model": model, "features": data.get("features"), "features_dtype": data.get("features_dtype", "float32")}


def make_parts(settings: dict[str, Any], path: Path) -> tuple[MetaLearner, nn.Module | None]:
    """Return the untrained learner and the network of the features that settings describe, without a data module.

    Args:
        settings: ``model`` and ``features``; see ``resolved_parts``.
        path: where they come from, for messages.

    Raises:
        ValueError: see ``make``.
    """
    from metalit.cli.parser import parts_parser

    states = random_states()
    try:
        with explained(parser := parts_parser(), path):
            given = {name: settings[name] for name in ("model", "features")}
            made = parser.instantiate(parser.parse_object(given))
    finally:
        restore(states)
    return made.model, made.features


@contextmanager
def explained(parser: Any, path: Path) -> Iterator[None]:
    """Explain a mistake in the settings of a file in one sentence."""
    from metalit.cli.errors import innermost
    from metalit.cli.mistakes import ParsingError, explain

    try:
        yield
    except ParsingError as error:
        message = explain(str(error), error, parser)
        hint = "; put the folder of your own modules on sys.path" if "there is no class" in message else ""
        raise UserError(f"{path}: {message}{hint}") from error
    except ValueError as error:
        # the class's own message about a setting, without the jsonargparse exceptions around it
        raise innermost(error) from None
