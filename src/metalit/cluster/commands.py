"""The commands of the command line that are not Lightning's."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from metalit.cluster.collect import collect_command
from metalit.cluster.manage import cancel, logs, status
from metalit.cluster.submit import submit

COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = MappingProxyType(
    {"submit": submit, "status": status, "logs": logs, "cancel": cancel, "collect": collect_command}
)
