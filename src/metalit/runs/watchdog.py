"""A rank that nobody waits for any more ends."""

import os
import sys
import threading
import time

INTERVAL = 2.0  # seconds between two looks


def end_with_parent() -> None:
    """If this process is one of the ranks that a launcher has started, have it end when its launcher is gone.

    The launcher may be the first rank itself. If that is killed, the others find out at their next exchange, and not
    at all if they wait for it on a GPU; until then they keep their devices. The opposite case, a rank that dies, is
    the launchers' own business: Lightning's and torchrun end all others.
    """
    if "LOCAL_RANK" in os.environ:
        threading.Thread(target=wait_for_orphanhood, args=[os.getppid()], name="end-with-parent", daemon=True).start()


def wait_for_orphanhood(parent: int) -> None:
    """End this process as soon as ``parent`` is not its parent any more."""
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    sys.stderr.write(f"error: the process {parent} that started this rank is gone, so it ends too\n")
    sys.stderr.flush()
    os._exit(1)  # whatever the main thread is waiting for
