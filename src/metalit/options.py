"""The options of a parser, which argparse and jsonargparse keep under private names.

Beside ``private.py``, which loads Lightning: the commands that need no Lightning explain mistakes in options too.
"""

import argparse
from collections.abc import Iterator
from typing import Any


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return all options of a parser."""
    return parser._actions


def commands_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of a parser's commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def type_of(option: argparse.Action | None) -> Any:
    """Return the type of an option, or None if it stands for a group of options."""
    return getattr(option, "_typehint", None)
