"""Entry point shared by ``python train.py``, ``python -m metalit`` and ``metalit``."""

import os
import sys
from collections.abc import Callable, Sequence

from metalit.cli.failures import DEBUG_VARIABLE, explain_system, fail, mistakes
from metalit.cli.noise import without_noise
from metalit.cli.plain import ends_at_the_outline, outline
from metalit.cli.program import import_from_working_directory
from metalit.collector import importing
from metalit.commands import find_command
from metalit.compile_cache import keep_compiled_code


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line with the arguments given, by default those of the process.

    Raises:
        SystemExit: with code 2 after a mistake in options, files or data.
    """
    words = list(sys.argv[1:] if args is None else args)
    is_program = args is None  # not called from Python, where others may need the collector
    # Before any option is parsed: a class_path may name a module of the user's working directory.
    import_from_working_directory()
    with without_noise():
        # These commands have parsers of their own; Lightning's parser would reject them as unknown subcommands.
        with importing(for_good=is_program):
            command = find_command(words)
        if command is not None:
            run_command(command, words[1:])
        elif ends_at_the_outline(words):
            outline().parse_args(words)  # ends the program: with a help text, the version or a mistake
        else:
            keep_compiled_code()  # before anything imports torch's compiler
            with importing(for_good=is_program):
                from metalit.lightning_commands import run_lightning  # here, since it takes seconds
            run_lightning(args)


def run_command(command: Callable[[Sequence[str]], None], args: Sequence[str]) -> None:
    """Run a command that is not Lightning's, and report a mistake in one line."""
    try:
        command(args)
    except mistakes() as error:
        # As for Lightning's commands, METALIT_DEBUG=1 shows the traceback.
        if DEBUG_VARIABLE in os.environ:
            raise
        if isinstance(error, OSError) and error.errno is not None:
            fail(explain_system(error, None))
        fail(str(error))
