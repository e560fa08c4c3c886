"""Tasks shared out over threads, each computing its tasks with one thread of torch."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import torch

Run = Callable[[int, int], None]


def for_tasks(tasks: int, run: Run) -> None:
    """Call ``run(start, stop)`` for ranges that cover all tasks, side by side on torch's number of threads.

    What a task computes does not depend on the number of threads, since its range has one thread to itself.
    """
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        run(0, tasks)
        return
    bounds = [tasks * i // threads for i in range(threads + 1)]

    def alone(i: int) -> None:
        with torch.no_grad():
            run(bounds[i], bounds[i + 1])

    list(pool(torch.get_num_threads()).map(alone, range(threads)))


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return threads in which torch's functions use one thread each."""
    started = Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        started.wait()

    workers = ThreadPoolExecutor(threads, "tasks", start)
    for _ in range(threads):
        workers.submit(lambda: None)
    started.wait()
    # the calls above set it for threads that start later too
    torch.set_num_threads(threads)
    return workers


os.register_at_fork(after_in_child=pool.cache_clear)  # threads do not survive a fork
