"""End a rank whose launcher is gone."""

import os
import sys
import threading
import time

INTERVAL = 2.0  # seconds between two checks


def end_with_parent() -> None:
    """End this process when its launcher is gone, if it is a rank that a launcher has started.

    The launcher may be the first rank itself. If it is killed, the other ranks notice at their next communication, or
    never if they are waiting for it on a GPU; until then they occupy their devices. The opposite case, a rank that
    dies, is handled by the launchers: Lightning's and torchrun end all other ranks.
    """
    if "LOCAL_RANK" in os.environ:  # Lightning and torchrun set it for the ranks they start
        threading.Thread(target=wait_for_orphanhood, args=[os.getppid()], name="end-with-parent", daemon=True).start()


def wait_for_orphanhood(parent: int) -> None:
    """End this process once ``parent`` is no longer its parent."""
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    sys.stderr.write(f"error: the process {parent} that started this rank is gone, so it ends too\n")
    sys.stderr.flush()
    os._exit(1)  # sys.exit would end this thread only, and the main thread may be blocked on the GPU
