"""The command line."""

from metalit.cli.command_line import MetalitCLI, main

__all__ = ["MetalitCLI", "main"]
