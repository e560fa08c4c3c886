"""Python's collector of reference cycles, kept away from what is imported and lives as long as the process."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing(for_good: bool) -> Iterator[None]:
    """Import without collections.

    torch and Lightning make a million objects and hardly a cycle to collect, yet the collector looks through them again
    and again while they are imported, once more when the process ends, and in training: over a third of the processor
    time of a process that imports them and ends (``benchmarks/start_up.py``).

    Args:
        for_good: exempt all objects of the process from collections until it ends; not for a process in which others
            may wait for an object to be collected.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if for_good:
            gc.freeze()
        if was_on:
            gc.enable()
