"""Lightning's commands, fit, validate, test and predict, and the process that runs one: its beginning and its end.

Importing this loads torch and Lightning, which takes seconds.
"""

from collections.abc import Sequence

from metalit.allocator import keep_freed_memory
from metalit.cli.command_line import MetalitCLI
from metalit.ranks import leave_ranks
from metalit.runs import end_with_parent
from metalit.runs.preemption import Preempted, ignore_late_signals


def run_lightning(args: Sequence[str] | None) -> None:
    """Run a command of Lightning's with the arguments given, by default those of the process."""
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
