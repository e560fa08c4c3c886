"""Where compiled code is kept, so that the second start of a training finds it: the user's cache folder.

torch's own place, ``/tmp/torchinductor_<user>``, is lost with a reboot, and on a cluster with the node.
"""

import hashlib
import os
import platform
import re
from pathlib import Path

FOLDER_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"  # torch's own; one that is set already stays
CPU_INFO = Path("/proc/cpuinfo")


def keep_compiled_code() -> None:
    """Let torch's compiler keep its code in the user's cache folder, unless the user has chosen another folder.

    To be called before torch's compiler is imported, which Lightning does: from then on torch's own place counts as
    chosen. A folder that cannot be written leaves the choice to torch. Processes that start later inherit the choice.
    """
    if FOLDER_VARIABLE in os.environ:
        return
    try:
        folder = user_cache() / "metalit" / f"compiled-{this_cpu()}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return
    if os.access(folder, os.W_OK):
        os.environ[FOLDER_VARIABLE] = str(folder)


def user_cache() -> Path:
    """Return the user's folder of caches, by the XDG convention."""
    # the convention says to ignore a relative path
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return given if given.is_absolute() else Path.home() / ".cache"


def this_cpu() -> str:
    """Return a short name of this kind of processor, the same for all that run the same instructions."""
    # Inductor compiles for the processor it runs on (-march=native), of which its keys name the vector extension alone.
    # The nodes of a cluster that share a home may differ in more: one could run into instructions that it lacks.
    try:
        lines = re.findall(r"^(?:model name|flags|Features)\s*:.*$", CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        lines = [platform.processor()]
    about = "\n".join([platform.machine(), *sorted(set(lines))])
    return hashlib.sha256(about.encode()).hexdigest()[:12]
