"""Parsers that need neither Lightning nor torch: those of the commands about jobs, and the outline of all commands.

A word such as ``--help`` or ``status`` must not wait for seconds until torch is loaded.
"""

import argparse
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

import metalit
from metalit.cli.config_files import ConfigFile
from metalit.cli.failures import fail
from metalit.cli.mistakes import explain
from metalit.cli.program import program_name

# Lightning's commands and what it says of each; tests/cli/test_plain.py compares them with Lightning's own words.
COMMANDS = {
    "fit": "Runs the full optimization routine.",
    "validate": "Perform one evaluation epoch over the validation set.",
    "test": "Perform one evaluation epoch over the test set. It's separated from fit to make sure you never run on "
    "your",
    "predict": "Run inference on your data. This will call the model forward function to compute predictions. Useful "
    "to",
}
EPILOG = (
    "Lightning's trainer: fit --help=trainer. Photos of your own: predict --support --help, export --help. On a "
    "cluster: submit, status, logs, cancel, collect; each has its own --help."
)


class PlainParser(ArgumentParser):
    """jsonargparse's parser without abbreviations, with metalit's messages for mistakes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # argparse accepts any unambiguous prefix of an option's name, so a truncated name would pass.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Explain the mistake and exit with code 2."""
        fail(explain(message, ex, self))


def texts() -> dict[str, str]:
    """Return what the help of the whole command line says around its options."""
    return {"prog": program_name(), "description": "Meta-learning in PyTorch Lightning.", "epilog": EPILOG}


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--config``."""
    text = "Settings in YAML; given several times, the later wins."
    parser.add_argument("-c", "--config", action=ConfigFile, help=text)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--version``."""
    version = f"metalit {metalit.__version__}"
    parser.add_argument("--version", action="version", version=version, help="Print the version.")


def ends_at_the_outline(words: Sequence[str]) -> bool:
    """Whether a command line names none of Lightning's commands, and needs none of their options to be answered."""
    # argcomplete runs a program without words, to ask its parser for the options of every command
    if "_ARGCOMPLETE" in os.environ:
        return False
    if len(words) == 0 or list(words) in (["--help"], ["-h"], ["--version"]):
        return True
    return not words[0].startswith("-") and words[0] not in COMMANDS


def outline() -> PlainParser:
    """Return the parser of Lightning's commands without their options: for help, version and unknown commands."""
    parser = PlainParser(**texts())
    add_config(parser)
    add_version(parser)
    commands = parser.add_subcommands()
    for name, text in COMMANDS.items():
        commands.add_subcommand(name, PlainParser(), help=text)
    return parser
