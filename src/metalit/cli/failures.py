"""How a mistake of the user ends the program: with one line and exit code 2, without a traceback."""

import errno
import os
import sys
from typing import NoReturn

from metalit.exit_codes import MISTAKE

DEBUG_VARIABLE = "METALIT_DEBUG"  # 1 shows the traceback
# For these errors the message names the run folder and what to do, not the file that was being written.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def mistakes() -> tuple[type[Exception], ...]:
    """Return the errors that report a mistake of the user; all others are bugs and keep their traceback."""
    # Only a command that has loaded Lightning can meet Lightning's own error; the others must not load it here.
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    of_lightning = () if lightning is None else (lightning.MisconfigurationException,)
    return (ValueError, OSError, FloatingPointError, ImportError, *of_lightning)


def explain_system(error: OSError, run_dir: str | None) -> str:
    """Return one sentence for an error of the operating system."""
    reason = os.strerror(error.errno or 0)
    if error.errno not in NO_ROOM:
        return reason if error.filename is None else f"{error.filename}: {reason}"
    where = error.filename if run_dir is None else f"run_dir: {run_dir}"
    remedy = "free space, or give another --run_dir"
    return f"{where} cannot be written ({reason}); existing checkpoints are unchanged; {remedy}"


def fail(message: str) -> NoReturn:
    """Print a message on one line and exit with code 2."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    raise SystemExit(MISTAKE)
