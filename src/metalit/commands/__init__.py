"""The commands that are not Lightning's: submit, status, logs, cancel, collect, export and ``predict --support``.

The rule of this room: a command reads its options with ``cli`` and acts through ``cluster``, ``evaluation`` or
``inference``, none of which imports it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pkgutil import resolve_name
from types import MappingProxyType
from typing import TypeAlias

Command: TypeAlias = Callable[[Sequence[str]], None]

# By name, so that a command loads its own module alone: status, logs and cancel need no torch.
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "submit": "metalit.commands.submit:submit",
        "status": "metalit.commands.manage:status",
        "logs": "metalit.commands.manage:logs",
        "cancel": "metalit.commands.manage:cancel",
        "collect": "metalit.commands.collect:collect_command",
        "export": "metalit.commands.use:export_model",
    }
)
PREDICT_OWN = "metalit.commands.use:predict_own"


def find_command(words: Sequence[str]) -> Command | None:
    """Return what runs a command line, or None if that is Lightning's own command line."""
    place = PREDICT_OWN if is_about_own(words) else COMMANDS.get(words[0]) if words else None
    if place is None:
        return None
    command: Command = resolve_name(place)
    return command


def is_about_own(words: Sequence[str]) -> bool:
    """Whether a command line is ``predict --support``, on the user's own examples, or asks for its help."""
    if list(words) in (["predict", "--help"], ["predict", "-h"]):
        return True
    return words[:1] == ["predict"] and any(_names(words, option) for option in ("--support", "--query"))


def _names(words: Iterable[str], option: str) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in words)
