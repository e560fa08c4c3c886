"""The end of a rank after another rank has failed: the failed rank reports the cause, this one ends quietly."""

import sys
import time
from subprocess import Popen
from typing import Any, NoReturn

PATIENCE = 10.0  # seconds in which the failed rank may report its error and end
LOST_RANK = "error: another rank of this run has failed, and says why itself; this one ends too"


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error says no more than that a collective with another rank has failed."""
    # Here, because status, which knows the line above, must not load torch.
    import torch.distributed as dist

    # NCCL's errors are DistErrors. gloo raises plain RuntimeErrors, recognisable by the source file in their text.
    is_of_backend = dist.is_available() and isinstance(error, dist.DistError)
    return is_of_backend or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


def end_with_other_rank(trainer: Any) -> NoReturn:
    """End in one line, after the failed rank, with its exit code if this process has launched it.

    ``trainer`` is None if the rank failed before there was one.
    """
    launcher = getattr(getattr(trainer, "strategy", None), "launcher", None)
    procs: list[Popen[bytes]] = getattr(launcher, "procs", None) or []
    started = list(procs)
    procs.clear()  # else Lightning's observer of this list kills this process before it has printed
    code = first_failure(started)
    sys.stderr.write(f"{LOST_RANK}\n")
    sys.stderr.flush()
    # The observer, with its list empty, no longer ends these processes.
    for process in started:
        process.kill()
    raise SystemExit(code)


def first_failure(processes: list[Popen[bytes]]) -> int:
    """Return the exit code of the first process that fails; 1 if none fails in time, or if there are none."""
    # A rank that has launched no others cannot watch the failed one, so it gives it a second to print its error first.
    end = time.monotonic() + (PATIENCE if processes else 1.0)
    while time.monotonic() < end:
        for process in processes:
            if process.poll():
                # Popen has the negative number of the signal that ended a process, which is no exit code.
                return abs(process.poll() or 1)
        time.sleep(0.05)
    return 1
