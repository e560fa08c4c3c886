"""The command line.

The rule of this room: it turns words into objects and mistakes into one-sentence messages; running things is left to
other packages.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metalit.cli.command_line import MetalitCLI

__all__ = ["MetalitCLI"]


def __getattr__(name: str) -> Any:
    """Load Lightning's command line when it is first asked for: other commands need parts of this package alone."""
    if name not in __all__:
        raise AttributeError(f"module 'metalit.cli' has no attribute {name!r}")
    from metalit.cli.command_line import MetalitCLI

    return MetalitCLI
