"""Functions that return a network, accepted where an option takes a network."""

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
    """Let jsonargparse accept the functions that a value names, even those without a return annotation.

    Args:
        value: of an option that takes a network: an import path, settings with a ``class_path``, or a list of those.

    Raises:
        TypeError: the value names a ``functools.partial``, which has no annotations to complete.
    """
    for path in paths(value):
        found = object_at(path)
        # A class method or a decorated function: the annotation belongs on the function underneath.
        function = inspect.unwrap(getattr(found, "__func__", found)) if callable(found) else None
        if isinstance(found, partial):
            raise TypeError(f"found {path}, a functools.partial; expected a class or a function, written with def")
        if inspect.isfunction(function) and not says_class(function):
            # jsonargparse takes a function for a class only if it is annotated to return one, and most factories are
            # not. check_made verifies the claim once the function has returned.
            function.__annotations__["return"] = nn.Module


def check_made(class_path: str, made: Any) -> None:
    """Refuse what a function returned unless it is a network.

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
    """Return the object at an import path; None if there is none, which jsonargparse reports."""
    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return None


def import_problem(path: str) -> str | None:
    """Return why a module that exists cannot be imported.

    Args:
        path: of a class or a function in the module.

    Returns:
        The reason; None if the import succeeds, or if the module does not exist, which jsonargparse reports.
    """
    module = path.rpartition(".")[0]
    try:
        resolve_name(path)
    except ModuleNotFoundError as error:
        # The path itself leads nowhere; any other missing module is one that the user's own module imports.
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            return None
        return described(module, error)
    except Exception as error:  # an import executes the module, so it may raise anything
        return described(module, error)
    return None


def described(module: str, error: Exception) -> str | None:
    """Return the file and the line in which an import fails; None if the module lacks only the name."""
    # Python's own import machinery appears as "<frozen importlib...>"; the last frame left is the user's line.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    if isinstance(error, SyntaxError):
        return f"cannot import {module}: {error}"  # its message has the file and the line
    # Raised by resolve_name itself: the module is fine, and jsonargparse says that the name is missing.
    if Path(frames[-1].filename) == Path(pkgutil.__file__):
        return None
    return f"cannot import {module}: {error} ({frames[-1].filename}, line {frames[-1].lineno})"


def says_class(function: Callable[..., Any]) -> bool:
    """Whether a function's return annotation is a class, as jsonargparse requires."""
    try:
        returned = inspect.signature(function, eval_str=True).return_annotation
    except (
        NameError,
        AttributeError,
        TypeError,
        SyntaxError,
    ):  # the annotation is imported under TYPE_CHECKING only
        return False
    return inspect.isclass(returned) and returned not in (inspect.Signature.empty, Any, object)
