"""The commands that are not Lightning's: submit, status, logs, cancel, collect, export and ``predict --support``.

The rule of this room: a command reads its options with ``cli`` and acts through ``cluster``, ``evaluation`` or
``inference``, none of which imports it.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from metalit.commands.collect import collect_command
from metalit.commands.manage import cancel, logs, status
from metalit.commands.submit import submit
from metalit.commands.use import export_model, is_about_own, predict_own

COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = MappingProxyType(
    {
        "submit": submit,
        "status": status,
        "logs": logs,
        "cancel": cancel,
        "collect": collect_command,
        "export": export_model,
    }
)


def find_command(words: Sequence[str]) -> Callable[[Sequence[str]], None] | None:
    """Return what runs a command line, or None if that is Lightning's own command line."""
    if is_about_own(words):
        return predict_own
    return COMMANDS.get(words[0]) if words else None
