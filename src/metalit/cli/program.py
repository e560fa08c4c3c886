"""The running program: the name by which the user calls it, and the import of the user's own modules."""

import sys
from pathlib import Path


def program_name() -> str:
    """Return the command by which the user calls metalit, for messages that show a command."""
    program = Path(sys.argv[0])
    if program.stem == "metalit":
        return "metalit"
    return "python -m metalit" if program.parts[-2:] == ("metalit", "__main__.py") else "python train.py"


def import_from_working_directory() -> None:
    """Let the script ``metalit`` import modules from the working directory, as ``python -m metalit`` does.

    For a script Python puts the script's own folder first in ``sys.path``, here a folder of programs without modules.
    Nothing changes under ``PYTHONSAFEPATH``, which forbids imports from the working directory.
    """
    here = str(Path.cwd())
    if program_name() == "metalit" and not sys.flags.safe_path and here not in sys.path:
        sys.path.insert(0, here)
