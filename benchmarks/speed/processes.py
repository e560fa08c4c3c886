"""A process for each case, and one for each contender's memory.

They are forked from a server that has imported everything and computed nothing, so a process costs no import, and its
peak of memory begins at what the imports take.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import torch

from metalit.allocator import keep_freed_memory
from metalit.learn2learn_compat import import_learn2learn

from .cases import cases
from .memory import mib_of_step
from .race import Found, LeftOutError, Setting, race

Returned = TypeVar("Returned")
with suppress(ImportError):  # takes longer than many a race; a case that needs it says that it is missing
    import_learn2learn("algorithms")


def prepare(threads: int) -> None:
    """Set what processes inherit: as many cores and threads as asked for, whatever library uses them."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    multiprocessing.set_forkserver_preload([__name__])


def alone(function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        return pool.submit(function, *arguments).result()


def run(name: str, setting: Setting) -> Found:
    """Run the race of a case; called in a process of its own."""
    torch.set_num_threads(setting.threads)
    keep_freed_memory()  # as `metalit fit` does
    return race(cases()[name], setting)


def measure(name: str, contender: str, setting: Setting) -> float | str:
    """Return the MiB of a contender's step, or why there is no such figure; called in a process of its own."""
    torch.set_num_threads(setting.threads)
    (each,) = [each for each in cases()[name].contenders if each.name == contender]
    try:
        return mib_of_step(each, setting)
    except LeftOutError as reason:
        return str(reason)


def of_case(name: str, setting: Setting) -> Found:
    """Return everything that a case finds out; in a smoke run the memory of the first contender alone."""
    found = alone(run, name, setting)
    if cases()[name].memory:
        for contender in list(found.seconds)[: 1 if setting.smoke else None]:
            mib = alone(measure, name, contender, setting)
            if isinstance(mib, float):
                found.mib[contender] = mib
            else:
                found.left_out[f"{contender}, memory"] = mib
    return found
