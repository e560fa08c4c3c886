"""File locks, on operating systems that have ``fcntl``; Windows does not."""

import errno
from typing import IO

try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]


def lock_for_process(file: IO[str]) -> None:
    """Lock a file until this process closes it or ends; child processes do not share the lock.

    Raises:
        BlockingIOError: another process holds the lock (PermissionError on some file systems).
        OSError: the system or the file system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "this system has no fcntl")
    # a POSIX lock belongs to the process: a data loader worker that outlives it does not keep the file locked
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_while_open(file: IO[str] | int) -> None:
    """Lock a file for as long as it is open in this process or in one that inherits it.

    Raises:
        BlockingIOError: the file is locked already.
        OSError: the system or the file system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "this system has no fcntl")
    # a BSD lock belongs to the open file, which child processes inherit: a job holds it until its last process ends
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
