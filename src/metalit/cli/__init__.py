"""The command line.

The rule of this room: it turns words into objects and mistakes into one sentence; what is then done is done elsewhere.
"""

from metalit.cli.command_line import DEBUG_VARIABLE, MISTAKES, MetalitCLI

__all__ = ["DEBUG_VARIABLE", "MISTAKES", "MetalitCLI"]
