"""Descriptions of the values that an option takes, and the valid name nearest to a misspelt one."""

import argparse
import difflib
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse.typing import PositiveInt

from metalit.options import type_of

MOST_CLASSES = 15  # a longer list of classes of other libraries is not shown
SHOWN_CLASSES = 8  # of a list that does not fit on one line
SIMPLE_TYPES: dict[Any, str] = {
    int: "a whole number",
    PositiveInt: "a whole number above 0",
    float: "a number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
    Any: "any value",
}
FOR_PROGRAMS = ("Tensor", "Path", "PathLike")  # alternatives that a configuration file cannot express


def describe_values(action: argparse.Action | None) -> str:
    """Return a description of the values that an option takes."""
    hint = type_of(action)
    if hint is None:
        return any_of([str(choice) for choice in getattr(action, "choices", None) or ["its settings"]])
    known = known_classes(action)
    # of torch's Module, the networks that metalit exports are listed
    ours = all(is_module(base) or base.__module__.startswith("metalit.") for base in classes_in(hint))
    # metalit's own classes are always listed, those of other libraries only if they are few.
    if not known or (len(known) > MOST_CLASSES and not ours):
        return describe(hint)
    fit_one_line = len(", ".join(known)) < 120
    some = any_of(known) if fit_one_line else f"{', '.join(known[:SHOWN_CLASSES])}, ..."
    return f"{describe(hint).removesuffix(' or null')}, such as {some}"


def describe(hint: Any) -> str:
    """Return a type's values in words."""
    return any_of(list(alternatives(hint)))


def alternatives(hint: Any) -> Iterator[str]:
    """Yield each kind of value that a type admits, in words."""
    origin, args = get_origin(hint), get_args(hint)
    # PositiveInt is a class too, so it must be found here before the last branch names it.
    if hint in SIMPLE_TYPES:
        yield SIMPLE_TYPES[hint]
    elif origin is Literal:
        yield from (str(value) for value in args)
    elif origin in (Union, types.UnionType):
        for arg in args:
            if getattr(arg, "__name__", "") not in FOR_PROGRAMS:
                yield from alternatives(arg)
    elif is_callable(hint):
        yield f"a class that makes {describe(args[-1])}" if args else "a function"
    elif inspect.isclass(origin) and issubclass(origin, Iterable) and not issubclass(origin, Mapping):
        yield f"a list (each {describe(args[0])})" if args else "a list"
    else:
        name = getattr(hint, "__name__", str(hint))
        yield f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def any_of(names: Sequence[str]) -> str:
    """Join alternatives by commas and ``or``, each once."""
    names = list(dict.fromkeys(names))
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def known_classes(action: argparse.Action | None) -> list[str]:
    """Return the names of the concrete classes that an option takes, of all that are loaded or of metalit's alone."""
    found: set[type] = set()
    for base in set(classes_in(type_of(action))):
        if is_module(base):  # whole networks, which metalit exports, not their parts
            from metalit import networks  # here, because the parsers that have no networks must not load torch

            exported = [getattr(networks, name) for name in networks.__all__]
            found |= {cls for cls in exported if inspect.isclass(cls) and issubclass(cls, base)}
        else:
            home = "metalit." if base.__module__.startswith("metalit.") else ""
            found |= {cls for cls in subclasses(base) if cls.__module__.startswith(home)}
    return sorted({cls.__name__ for cls in found if not inspect.isabstract(cls) and not cls.__name__.startswith("_")})


def is_module(base: type) -> bool:
    """Whether a class is torch's ``nn.Module`` itself, by its name: asking must not load torch."""
    return (base.__module__, base.__name__) == ("torch.nn.modules.module", "Module")


def classes_in(hint: Any) -> Iterator[type]:
    """Yield the classes in a type; of a callable, those of its return type."""
    origin, args = get_origin(hint), get_args(hint)
    if args and origin is not Literal:
        for arg in args[-1:] if is_callable(hint) else args:
            yield from classes_in(arg)
    elif inspect.isclass(hint) and hint not in SIMPLE_TYPES and hint.__name__ not in FOR_PROGRAMS:
        yield hint


def is_callable(hint: Any) -> bool:
    """Whether a type is a ``Callable``: a function, or a class that is built later."""
    return get_origin(hint) is get_origin(Callable[[], None])


def subclasses(base: type) -> Iterator[type]:
    """Yield a class and all its subclasses that are loaded, at any depth."""
    yield base
    # Called on type, since base may be a metaclass, whose own __subclasses__ needs an argument.
    derived: list[type] = type.__subclasses__(base)
    for cls in derived:
        yield from subclasses(cls)


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the most similar of the names, ignoring case, or None if none has a similarity of ``cutoff`` (0 to 1)."""
    lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=cutoff)
    return lower[close[0]] if close else None
