"""The command line.

The rule of this room: it turns words into objects and mistakes into one sentence; what is then done is done elsewhere.
"""

from metalit.cli.command_line import MetalitCLI, main

__all__ = ["MetalitCLI", "main"]
