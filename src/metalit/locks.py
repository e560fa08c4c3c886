"""Locks on files, where the operating system has them: Windows has no ``fcntl``."""

import errno
from typing import IO

try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]


def lock_for_process(file: IO[str]) -> None:
    """Lock a file until this process closes it or ends; processes started from it do not share the lock.

    Raises:
        BlockingIOError: another process has it (or PermissionError, on some file systems).
        OSError: there are no locks here.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "this system has no fcntl")
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_while_open(file: IO[str] | int) -> None:
    """Lock a file for as long as it is open, here or in a process that inherits it.

    Raises:
        BlockingIOError: it is locked.
        OSError: there are no locks here.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "this system has no fcntl")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
