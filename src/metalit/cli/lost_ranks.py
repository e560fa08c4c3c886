"""What a rank says and does when another one has failed: the cause is the other's to tell."""

import sys
import time
from subprocess import Popen
from typing import Any, NoReturn

import torch.distributed as dist

PATIENCE = 10.0  # seconds for the rank that failed to say why, and to end
LOST_RANK = "error: another rank of this run has failed, and says why itself; this one ends too"


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error only says that an exchange with another rank has failed."""
    is_of_backend = dist.is_available() and isinstance(error, dist.DistError)
    return is_of_backend or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


def end_with_other_rank(trainer: Any) -> NoReturn:
    """End in one line, after the rank that failed, and with its exit code if this process has started it.

    Raises:
        SystemExit: always.
    """
    launcher = getattr(getattr(trainer, "strategy", None), "launcher", None)
    procs: list[Popen[bytes]] = getattr(launcher, "procs", None) or []
    started = list(procs)
    procs.clear()  # else Lightning's observer, which looks at this list, kills this process before it has spoken
    code = first_failure(started)
    sys.stderr.write(f"{LOST_RANK}\n")
    sys.stderr.flush()
    for process in started:
        process.kill()
    raise SystemExit(code)


def first_failure(processes: list[Popen[bytes]]) -> int:
    """Return the exit code of the first process that fails; 1 if none does in time, or if there are none."""
    end = time.monotonic() + (PATIENCE if processes else 1.0)
    while time.monotonic() < end:
        for process in processes:
            if process.poll():
                return abs(process.poll() or 1)
        time.sleep(0.05)
    return 1
