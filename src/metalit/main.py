"""The program: what ``python train.py``, ``python -m metalit`` and ``metalit`` run."""

import os
import sys
from collections.abc import Callable, Sequence

from metalit.allocator import keep_freed_memory
from metalit.cli import DEBUG_VARIABLE, MISTAKES, MetalitCLI
from metalit.cli.noise import without_noise
from metalit.cli.parser import fail
from metalit.cli.program import import_from_working_directory
from metalit.commands import COMMANDS
from metalit.runs import end_with_parent


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: the arguments; those of the process if not given.

    Raises:
        SystemExit: with code 2 after a mistake in options, files or data.
    """
    words = list(sys.argv[1:] if args is None else args)
    import_from_working_directory()
    with without_noise():
        if words and words[0] in COMMANDS:
            run_command(COMMANDS[words[0]], words[1:])
            return
        keep_freed_memory()
        end_with_parent()
        MetalitCLI(args)


def run_command(command: Callable[[Sequence[str]], None], args: Sequence[str]) -> None:
    """Run a command that is not Lightning's; a mistake is one line."""
    try:
        command(args)
    except MISTAKES as error:
        if DEBUG_VARIABLE in os.environ:
            raise
        fail(str(error))
