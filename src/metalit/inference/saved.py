"""A recogniser as a folder: ``classifier.safetensors`` and ``classifier.json``, in which there is no code."""

import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

import metalit
from metalit.algorithms.predictor import Predictor
from metalit.data.features import FrozenFeatures
from metalit.errors import UserError
from metalit.files import atomic_write, write_text
from metalit.inference.recogniser import Recogniser, TrainedModel
from metalit.inference.saved_forms import form_as_json, form_from_json
from metalit.inference.threshold import Threshold
from metalit.inference.trees import packed, unpacked
from metalit.loading import make_parts
from metalit.networks import PretrainedText, StaticVectors

TENSORS, SETTINGS = "classifier.safetensors", "classifier.json"
FROM_FILES = (PretrainedText, StaticVectors)
NAMES = {"PretrainedText": "name_or_path", "StaticVectors": "path"}  # the setting that names their files
IMPORT_PATH = re.compile(r"[^\W\d]\w*([.:][^\W\d]\w*)+")
FORMAT = 2  # a later format has a higher number; 1 knew the forms of pictures only


def save_recogniser(recogniser: Recogniser, folder: str | Path) -> None:
    """Write a recogniser into a folder, which is made if it does not exist.

    Raises:
        UserError: the settings of the model are not known, so that no one could rebuild it; or the state that it has
            learned holds more than tensors.
    """
    if recogniser.model.settings is None:
        raise UserError(
            "the learner was given as an object, so its settings are not known: give the folder of its run instead, or "
            "save(folder, model=settings), with settings as under `model` in a config"
        )
    predictor, learned = recogniser.predictor, list[Tensor]()
    described = {
        "format": FORMAT,
        "metalit": metalit.__version__,
        "names": list(recogniser.names),
        "draws": predictor.draws,
        "state": packed([predictor.state, predictor.classes, predictor.like], learned),
        "form": form_as_json(recogniser.model.form),
        "threshold": None if recogniser.threshold is None else recogniser.threshold._asdict(),
        "settings": without_files(recogniser.model),
    }
    tensors = {f"learner.{name}": value for name, value in predictor.learner.state_dict().items()}
    tensors |= {f"learned.{number}": value for number, value in enumerate(learned)}
    if recogniser.model.features is not None:
        network = recogniser.model.features.network
        tensors |= {f"features.{name}": value for name, value in network.state_dict().items()}
    text = json.dumps(described, indent=1, ensure_ascii=False) + "\n"
    with atomic_write(Path(folder) / TENSORS) as file:
        # copies, because tensors of the learner may share memory, which the format does not allow
        file.write(save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}))
    write_text(Path(folder) / SETTINGS, text)


def load_recogniser(folder: str | Path, trusted: bool = False) -> Recogniser:
    """Return the recogniser that ``save_recogniser`` wrote into a folder.

    The learner is built from its settings; its class must be importable, but neither its data module nor its data.
    Classes are taken from installed packages and from what the program has imported.

    Args:
        folder: the folder.
        trusted: take classes from other files, and build networks by functions that the settings name, too. Both may do
            anything, so this is for folders of your own.

    Raises:
        FileNotFoundError: the folder holds no classifier.
        UserError: the files are damaged, of a later version, or name a class or function that may not be used.
    """
    described, tensors = read_json(Path(folder) / SETTINGS), read_tensors(Path(folder) / TENSORS)
    try:
        if described["format"] > FORMAT:
            raise UserError(f"it was written by metalit {described['metalit']}: upgrade metalit {metalit.__version__}")
        if not trusted:
            refuse_foreign(described["settings"])
        model = rebuilt(described, tensors, Path(folder) / SETTINGS)
        learned = part(tensors, "learned")
        state, classes, like = unpacked(described["state"], [learned[str(number)] for number in range(len(learned))])
        predictor = Predictor.restored(model.learner.evaluation_copy(), state, classes, like, described["draws"])
        threshold = described["threshold"]
        if not isinstance(described["names"], list) or len(described["names"]) != len(classes):
            raise UserError(f"it has {len(classes)} classes and the names {described['names']}")
        given = None if threshold is None else Threshold(**threshold)
        return Recogniser(model, predictor, described["names"], given)
    except (UserError, ImportError) as error:  # a package that the classifier needs says so itself
        raise UserError(f"{folder}: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(f"{folder} does not hold a classifier of metalit, or a damaged one: {error}") from error


def rebuilt(described: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> TrainedModel:
    """Return the trained model: networks built from their settings, with their weights."""
    settings, form = described["settings"], described["form"]
    refuse_files(settings)
    learner, network = make_parts(without_weights(settings), path)
    # assigned, so that a learner in float64 stays one
    learner.load_state_dict(part(tensors, "learner"), assign=True)
    features = None
    if network is not None:
        network.load_state_dict(part(tensors, "features"), assign=True)
        features = FrozenFeatures(network, settings["features_dtype"])
    return TrainedModel(learner.eval(), form_from_json(form), settings=settings, features=features)


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``name.``, without that beginning."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def without_files(model: TrainedModel) -> Any:
    """Return the settings of a model in which encoders of texts are described, and not read from files."""
    settings = deepcopy(model.settings)
    networks = [model.learner, *([] if model.features is None else [model.features.network])]
    modules = [module for network in networks for module in network.modules()]
    made = {(type(module).__name__, module.name): module for module in modules if isinstance(module, FROM_FILES)}
    for group in walked(settings):
        kind, options = str(group["class_path"]).rpartition(".")[2], group.get("init_args", {})
        if kind in NAMES:
            options["architecture"] = made[kind, options[NAMES[kind]]].architecture()
    return settings


def refuse_files(settings: Any) -> None:
    """Refuse settings in which an encoder of texts would be read from files: the classifier may come from anywhere.

    Raises:
        UserError: an encoder has no architecture.
    """
    for group in walked(settings):
        kind = str(group["class_path"]).rpartition(".")[2]
        if kind in NAMES and not group.get("init_args", {}).get("architecture"):
            raise UserError(f"its settings have no architecture of {kind}, which would be read from files")


def without_weights(settings: Any) -> Any:
    """Return settings in which no network reads a file of weights: the classifier has them."""
    settings = deepcopy(settings)
    for group in walked(settings):
        if str(group["class_path"]).rpartition(".")[2] in ("Backbone", "Frozen"):
            group.get("init_args", {}).update(weights=None, sha256=None)
    return settings


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of the file of settings."""
    try:
        described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.parent} holds no classifier: there is no {path.name}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return described


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; the format holds nothing else."""
    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.parent} holds no classifier: there is no {path.name}") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def refuse_foreign(settings: Any) -> None:
    """Refuse settings that name a function, which would be called before it can be judged, or code beside the folder.

    Text counts wherever it stands, since the parser takes ``network: some.path`` as well as a ``class_path``.
    """
    for text in texts(settings):
        if "class_path" in text:
            raise UserError("its settings hold settings as text: use trusted=True if you trust who wrote them")
        if IMPORT_PATH.fullmatch(text):
            refuse_own_code(text)
            refuse_function(text)
    for group in walked(settings):
        own = group.get("init_args", {}).get("module")  # what ``Backbone`` makes its network by
        found = resolved(own) if isinstance(own, str) else None
        if found is not None and not issubclass(getattr(found, "__self__", found), nn.Module):
            raise UserError(f"its settings name {own}, which makes no network")


def refuse_own_code(path: str) -> None:
    """Refuse an import from outside of installed packages, such as a file that came with the folder."""
    package = re.split("[.:]", path)[0]
    if package in sys.modules:
        return
    spec = find_spec(package)  # does not execute the package
    # None: there is none, as the parser will say
    if spec is None or spec.origin in ("built-in", "frozen"):
        return
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found = Path(spec.origin or next(iter(spec.submodule_search_locations or []), "."))
    if not any(found.is_relative_to(folder) for folder in installed):
        raise UserError(
            f"its settings name {path}, which is in {found} and not in an installed package: import {package} before, "
            "or use trusted=True, if you trust who wrote it"
        )


def refuse_function(path: str) -> None:
    """Refuse an import path of something that can be called and is neither a class nor makes a network of its own."""
    found = resolved(path)
    # a class method, such as from_name, belongs to its class
    kind = getattr(found, "__self__", None)
    makes_network = isinstance(kind, type) and issubclass(kind, nn.Module)
    if callable(found) and not isinstance(found, type) and not makes_network:
        raise UserError(f"its settings name {path}, which is not a class: use trusted=True if you trust who wrote them")


def resolved(path: str) -> Any:
    """Return what is at an import path; None if nothing is, as the parser will say."""
    from metalit.cli.factories import resolve  # imports the command line

    return resolve(path) if IMPORT_PATH.fullmatch(path) else None


def texts(settings: Any) -> Iterator[str]:
    """Yield every text among the values of nested settings."""
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from texts(value)


def walked(settings: Any) -> Iterator[dict[str, Any]]:
    """Yield every group with a ``class_path`` in nested settings."""
    if isinstance(settings, dict):
        if "class_path" in settings:
            yield settings
        for value in settings.values():
            yield from walked(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from walked(value)
