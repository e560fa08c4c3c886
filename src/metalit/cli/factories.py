"""Functions that return a network, accepted where an option takes a network."""

import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace
from torch import nn

from metalit.errors import SettingError

IMPORT_MACHINERY = (importlib.__file__, pkgutil.__file__)  # the rest of it calls itself "<frozen importlib...>"


def paths(value: Any) -> Iterator[str]:
    """Yield the import paths in an option's value: a path, settings with a ``class_path``, or a list of those."""
    if isinstance(value, list):
        for each in value:
            yield from paths(each)
    elif isinstance(value, Mapping | Namespace):
        yield from paths(value.get("class_path"))
    elif isinstance(value, str) and "." in value:
        yield value


def resolve(path: str) -> Any:
    """Return the object at an import path; None if there is none, which jsonargparse reports.

    Raises:
        ValueError: the module exists, but its import fails; with the file and the line.
    """
    try:
        return resolve_name(path)
    except SyntaxError as error:
        problem = str(error)  # has the file and the line
    except Exception as error:  # an import executes the module, so it may raise anything
        # The first frame is this function. If all others are of the import itself, the path leads nowhere.
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)[1:]
            if not frame.filename.startswith("<frozen") and frame.filename not in IMPORT_MACHINERY
        ]
        # A module's own __getattr__ says that the module has no such name.
        if not frames or (isinstance(error, AttributeError) and frames[-1].name == "__getattr__"):
            return None
        problem = f"{error} ({frames[-1].filename}, line {frames[-1].lineno})"
    raise ValueError(f"cannot import {path.rpartition('.')[0]}: {problem}")


def accept_factory(path: str, found: Any) -> None:
    """Let jsonargparse accept the function found at an import path, even without a return annotation.

    Raises:
        ValueError: it is a ``functools.partial``, which has no annotations to complete.
    """
    if isinstance(found, partial):
        raise ValueError(f"found {path}, a functools.partial; expected a class or a function, written with def")
    # A class method or a decorated function: the annotation belongs on the function underneath.
    function = inspect.unwrap(getattr(found, "__func__", found))
    if inspect.isfunction(function) and not returns_class(function):
        # jsonargparse takes a function for a class only if it is annotated to return one, and most factories are not.
        # check_made verifies the claim once the function has returned.
        function.__annotations__["return"] = nn.Module


def returns_class(function: Callable[..., Any]) -> bool:
    """Whether a function's return annotation is a class, as jsonargparse requires."""
    try:
        returned = inspect.signature(function, eval_str=True).return_annotation
    except (NameError, AttributeError, TypeError, SyntaxError):  # the annotation is imported under TYPE_CHECKING only
        return False
    return inspect.isclass(returned) and returned not in (inspect.Signature.empty, Any, object)


def check_made(class_path: str, made: Any) -> None:
    """Refuse what a function returned unless it is a network."""
    if not isinstance(made, nn.Module):
        expected = f"a function that returns a network (torch.nn.Module), not {made!r:.100}"
        raise SettingError("class_path", class_path, expected, owner=resolve_name(class_path))
