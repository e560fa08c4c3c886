"""The program that was started: how the user calls it, and from where it imports the user's own modules."""

import sys
from pathlib import Path


def program_name() -> str:
    """Return how the user calls metalit, for messages that name a command."""
    program = Path(sys.argv[0])
    if program.stem == "metalit":
        return "metalit"
    return "python -m metalit" if program.parts[-2:] == ("metalit", "__main__.py") else "python train.py"


def import_from_working_directory() -> None:
    """Have the script ``metalit`` find modules in the working directory, as ``python -m metalit`` does.

    Python itself puts the folder of the script in front, which holds programs and no modules. Not if it was told
    (PYTHONSAFEPATH) to import nothing from where it happens to be.
    """
    here = str(Path.cwd())
    if program_name() == "metalit" and not sys.flags.safe_path and here not in sys.path:
        sys.path.insert(0, here)
