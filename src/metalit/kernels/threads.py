"""Tasks shared out over threads, each computing its tasks by itself."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

Run = Callable[[int, int], None]


def for_tasks(tasks: int, run: Run) -> None:
    """Call ``run(start, stop)`` for ranges that cover all tasks, side by side on torch's number of threads.

    What a task computes does not depend on the number of threads, since its range has one thread to itself. ``run``
    calls no function of torch, whose settings are each thread's own.
    """
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        run(0, tasks)
        return
    bounds = [tasks * i // threads for i in range(threads + 1)]
    list(pool(torch.get_num_threads()).map(run, bounds[:-1], bounds[1:]))


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return so many threads, the same at each call."""
    return ThreadPoolExecutor(threads, "tasks")


os.register_at_fork(after_in_child=pool.cache_clear)  # threads do not survive a fork
