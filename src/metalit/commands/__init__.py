"""The commands that are not Lightning's: submit, status, logs, cancel and collect.

The rule of this room: a command reads its options with ``cli`` and acts through ``cluster`` or ``evaluation``, neither
of which imports it.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from metalit.commands.collect import collect_command
from metalit.commands.manage import cancel, logs, status
from metalit.commands.submit import submit

COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = MappingProxyType(
    {"submit": submit, "status": status, "logs": logs, "cancel": cancel, "collect": collect_command}
)
