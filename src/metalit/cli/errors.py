"""One sentence for an error raised after all options were read: which option it is about, and where that stands.

Errors are data (``metalit.errors``). While an object is made, an error takes down its class, and the class leads to the
option: no message is searched for values.
"""

import argparse
import re
from collections.abc import Callable, Iterator
from pkgutil import resolve_name
from typing import Any

import lightning as L
from jsonargparse import Namespace

from metalit.cli.failures import explain_system
from metalit.cli.mistakes import causes, location
from metalit.engine import Engine
from metalit.errors import SettingError
from metalit.runs import RunCheckpoint

NONE = Namespace()  # type: ignore[no-untyped-call]
# Classes whose options form a group of their own. Settings have no class_path there, so the key gives the class.
GROUPS: dict[str, type] = {"trainer": L.Trainer, "checkpoint": RunCheckpoint, "engine": Engine}

# Options that follow another, from which they have their value: a mistake in them is one in the other.
FOLLOWING = {"model.network.ways": "data.ways", "model.ways": "data.ways"}


def explain_error(error: BaseException, settings: Namespace | None, parser: argparse.ArgumentParser) -> str:
    """Return one sentence for an error raised by a command; ``settings`` are None if the command was not yet parsed."""
    settings = settings or NONE
    # An error of the operating system concerns no option, even if its text has the name of one by chance.
    if isinstance(error, OSError) and error.errno is not None:
        return explain_system(error, settings.get("run_dir"))
    key = given_option(key_of(error, settings), settings)
    if isinstance(error, SettingError):
        message = f"{key or error.name} is {error.value}, expected {error.expected}"
    else:
        message = str(error) if key is None else f"{key}: {error}"
    return message if key is None else message + location(parser, key)


def key_of(error: BaseException, settings: Namespace) -> str | None:
    """Return the dotted name of the option that an error is about, or of the class that raised it; None if unknown."""
    if isinstance(error, SettingError) and "." in error.name:
        return error.name
    owner = getattr(error, "owner", None)
    for key, cls, options in classes_of(settings):
        if cls is not owner:
            continue
        setting = error.name if isinstance(error, SettingError) else getattr(error, "setting", None)
        if setting is None:
            # An error of another library is about an option if its text has the name of exactly one, as a whole word.
            named = [name for name in vars(options) if re.search(rf"(?<![\w.]){name}\b", str(error))]
            return f"{key}.{named[0]}" if len(named) == 1 else key
        if setting in (*vars(options), "class_path"):
            return f"{key}.{setting}"
    return None


def given_option(key: str | None, settings: Namespace) -> str | None:
    """Return the option that the user gave, where ``key`` names one that follows it."""
    source = FOLLOWING.get(key or "")
    # data without such an option leave the other to the user
    return key if source is None or settings.get(in_file(source)) is None else source


def in_file(key: str) -> str:
    """Return the name that an option of a class has in a file, given that on the command line."""
    return ".init_args.".join(key.split("."))


def classes_of(settings: Namespace, key: str = "") -> Iterator[tuple[str, Any, Namespace]]:
    """Yield each class that the settings name: its key, the class, and its options."""
    for name, value in vars(settings).items():
        full = f"{key}.{name}".lstrip(".")
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, Namespace):
                continue
            path = each.get("class_path")
            options = each if path is None else each.get("init_args", NONE)
            if path is not None or name in GROUPS:
                yield full, GROUPS[name] if path is None else resolve_name(path), options
            yield from classes_of(options, full)


def make(cls: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Build an object; if that fails, note the class in the error."""
    try:
        return cls(*args, **options)
    except Exception as error:
        set_owner(error, cls)
        raise


def set_owner(error: BaseException, cls: Callable[..., Any]) -> None:
    """Note in an error, as ``owner``, the class that could not be built, unless an inner class is noted already."""
    if getattr(error, "owner", None) is None:
        error.owner = cls  # type: ignore[attr-defined]


def innermost(error: BaseException) -> BaseException:
    """Return the exception that a constructor raised, without the exceptions that jsonargparse wraps around it."""
    return next((cause for cause in causes(error) if getattr(cause, "owner", None) is not None), error)
