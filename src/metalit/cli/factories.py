"""Functions that make a network, where an option takes a network."""

import inspect
import pkgutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace
from torch import nn

from metalit.errors import SettingError


def accept_factories(value: Any) -> None:
    """Let jsonargparse take the functions that a value names, which it refuses if they do not say what they return.

    Args:
        value: of an option that takes a network: a path, settings with a ``class_path``, or a list of those.

    Raises:
        TypeError: it names an object with neither a signature nor a name, such as a ``functools.partial``.
    """
    for path in paths(value):
        found = object_at(path)
        function = inspect.unwrap(getattr(found, "__func__", found)) if callable(found) else None
        if isinstance(found, partial):
            raise TypeError(f"found {path}, a functools.partial; expected a class or a function, written with def")
        if inspect.isfunction(function) and not says_class(function):
            function.__annotations__["return"] = nn.Module


def check_made(class_path: str, made: Any) -> None:
    """Refuse what a function returned if it is no network.

    Raises:
        SettingError: with the function and what it returned.
    """
    if not isinstance(made, nn.Module):
        expected = f"a function that returns a network (torch.nn.Module), not {made!r:.100}"
        raise SettingError("class_path", class_path, expected, owner=object_at(class_path))


def paths(value: Any) -> Iterator[str]:
    """Yield the import paths in a value."""
    if isinstance(value, list):
        for each in value:
            yield from paths(each)
    elif isinstance(value, Mapping | Namespace):
        yield from paths(value.get("class_path"))
    elif isinstance(value, str) and "." in value:
        yield value


def object_at(path: str) -> Any:
    """Return what is at an import path; None if there is nothing, which jsonargparse reports."""
    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return None


def import_problem(path: str) -> str | None:
    """Say why a module that is there cannot be imported; None if it can, or is not there, which jsonargparse reports.

    Args:
        path: of a class or a function in the module.
    """
    module = path.rpartition(".")[0]
    try:
        resolve_name(path)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            return None
        return described(module, error)
    except Exception as error:  # a module may fail in any way
        return described(module, error)
    return None


def described(module: str, error: Exception) -> str | None:
    """Say in which line of which file an import fails; None if it is only that the name is not in the module."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    if isinstance(error, SyntaxError):
        return f"cannot import {module}: {error}"  # which says where
    if Path(frames[-1].filename) == Path(pkgutil.__file__):
        return None
    return f"cannot import {module}: {error} ({frames[-1].filename}, line {frames[-1].lineno})"


def says_class(function: Callable[..., Any]) -> bool:
    """Whether a function says of which class the object is that it returns."""
    try:
        returned = inspect.signature(function, eval_str=True).return_annotation
    except (
        NameError,
        AttributeError,
        TypeError,
        SyntaxError,
    ):  # a type that is imported for type checkers only
        return False
    return inspect.isclass(returned) and returned not in (inspect.Signature.empty, Any, object)
