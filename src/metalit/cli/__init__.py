"""The command line.

The rule of this room: it turns words into objects and mistakes into one-sentence messages; running things is left to
other packages.
"""

from metalit.cli.command_line import DEBUG_VARIABLE, MISTAKES, MetalitCLI

__all__ = ["DEBUG_VARIABLE", "MISTAKES", "MetalitCLI"]
