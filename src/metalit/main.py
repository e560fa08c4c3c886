"""Entry point shared by ``python train.py``, ``python -m metalit`` and ``metalit``."""

import os
import sys
from collections.abc import Callable, Sequence

from metalit.allocator import keep_freed_memory
from metalit.cli import DEBUG_VARIABLE, MISTAKES, MetalitCLI
from metalit.cli.errors import explain_system
from metalit.cli.noise import without_noise
from metalit.cli.parser import fail
from metalit.cli.program import import_from_working_directory
from metalit.commands import find_command
from metalit.ranks import leave_ranks
from metalit.runs import end_with_parent
from metalit.runs.preemption import Preempted, ignore_late_signals


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line with the arguments given, by default those of the process.

    Raises:
        SystemExit: with code 2 after a mistake in options, files or data.
    """
    words = list(sys.argv[1:] if args is None else args)
    # Before any option is parsed: a class_path may name a module of the user's working directory.
    import_from_working_directory()
    with without_noise():
        # These commands have parsers of their own; Lightning's parser would reject them as unknown subcommands.
        if (command := find_command(words)) is not None:
            run_command(command, words[1:])
            return
        # Only processes that train or evaluate need these two: a faster allocator on CPUs, and ranks that end when
        # their launcher is killed.
        keep_freed_memory()
        end_with_parent()
        try:
            MetalitCLI(args)
        except Preempted:  # by all ranks together, unlike any other error
            end_of_process(args)
            raise
        end_of_process(args)


def end_of_process(args: Sequence[str] | None) -> None:
    """Let nothing fail a process whose work is done and saved, if it is the program's own and about to end."""
    if args is None:
        leave_ranks()
        ignore_late_signals()


def run_command(command: Callable[[Sequence[str]], None], args: Sequence[str]) -> None:
    """Run a command that is not Lightning's, and report a mistake in one line."""
    try:
        command(args)
    except MISTAKES as error:
        # As for Lightning's commands, METALIT_DEBUG=1 shows the traceback.
        if DEBUG_VARIABLE in os.environ:
            raise
        if isinstance(error, OSError) and error.errno is not None:
            fail(explain_system(error, None))
        fail(str(error))
