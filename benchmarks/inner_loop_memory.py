"""Peak memory and time of a training step with many inner steps: plain MAML, with checkpointed steps, and iMAML.

    python benchmarks/inner_loop_memory.py

A step is meta-loss and meta-gradient of Conv4 with 64 filters (strided) on 5-way 1-shot tasks of 28x28 pixels in
float32. Every contender runs in a process of its own, for the peak of a process never falls; contenders take turns, and
a ratio compares two figures of one round. Memory is what the first step adds to the peak of the process, after a step
without any inner steps has loaded what a step needs; time is the median of the steps that follow. Memory is read from
the operating system, on Linux alone; where other programs compete for the same cores, ``--clock cpu`` counts the
processor time of the process instead of the time that passes.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from metalit import Episode, Labelled
from metalit.algorithms import IMAML, MAML, GradientBasedMetaLearner
from metalit.networks import Classifier, Conv4

WAYS, QUERIES = 5, 5
STEPS, QUICK_STEPS = (20, 5, 50), (4, 1, 8)  # inner steps of MAML, and few and many of iMAML
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Work:
    """How much there is to do, the same for all contenders."""

    tasks: int
    channels: int
    timed: int
    clock: str
    threads: int


def contenders(path: int, few: int, many: int) -> dict[str, Callable[[Classifier], GradientBasedMetaLearner]]:
    """Return what makes each learner, by name."""
    return {
        f"MAML, {path} steps": lambda network: MAML(network, 0.01, inner_steps=path),
        f"MAML, {path} steps, checkpointed": lambda network: MAML(
            network, 0.01, inner_steps=path, checkpoint_steps=True
        ),
        f"iMAML, {few} steps": lambda network: IMAML(network, 0.01, inner_steps=few),
        f"iMAML, {many} steps": lambda network: IMAML(network, 0.01, inner_steps=many),
    }


def peak() -> float:
    """Return the highest memory that this process has had, in MiB."""
    # getrusage has the peak of the parent, too, if that was higher when it started this process
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**10


def measure(make: Callable[[Classifier], GradientBasedMetaLearner], work: Work) -> tuple[float, float]:
    """Return (MiB that a step takes, seconds of a step); to be called in a fresh process."""
    torch.set_num_threads(work.threads)
    torch.manual_seed(0)
    x = torch.rand(work.tasks, WAYS + QUERIES, 1, 28, 28)
    y = torch.arange(WAYS).repeat(work.tasks, 1)
    episode = Episode(Labelled(x[:, :WAYS], y), Labelled(x[:, WAYS:], y), torch.arange(work.tasks))
    network = Classifier(Conv4(work.channels, downsample="stride"), WAYS)
    MAML(network, inner_steps=0).meta_loss(episode).backward()
    before, learner, now = peak(), make(network), CLOCKS[work.clock]
    learner.meta_loss(episode).backward()
    memory, seconds = peak() - before, []
    for _ in range(work.timed):
        start = now()
        learner.meta_loss(episode).backward()
        seconds.append(now() - start)
    return memory, median(seconds)


def in_a_process(name: str, work: Work, quick: bool) -> tuple[float, float]:
    """Return ``measure`` of one contender, from a fresh process."""
    command = [sys.executable, __file__, "--contender", name, "--work", json.dumps(asdict(work))]
    command += ["--quick"] if quick else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    memory, seconds = json.loads(done.stdout)
    return memory, seconds


def spread(values: list[float], digits: int) -> str:
    """Return "median (min to max)"."""
    middle, low, high = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle:>8} ({low} to {high})"


def table(found: dict[str, list[tuple[float, float]]], say: Callable[[str], None]) -> None:
    """Print every contender's figures, and then the ratios."""
    for name, rounds in found.items():
        memory, seconds = ([values[i] for values in rounds] for i in (0, 1))
        say(f"{name:32}{spread(memory, 0)} MiB  {spread(seconds, 3)} s")
    plain, checkpointed, few, many = found
    for one, other in ((checkpointed, plain), (many, few)):
        pairs = list(zip(found[one], found[other], strict=True))
        for i, what in enumerate(("memory", "time")):
            ratios = [values[i] / reference[i] for values, reference in pairs]
            say(f"{what + ': ' + one + ' / ' + other:62}{spread(ratios, 2)}")


def main(args: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--tasks", type=int, default=8, help="tasks in a meta-batch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="time that passes, or processor time")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--quick", action="store_true", help="one round of little work: does it run?")
    parser.add_argument("--contender", help=argparse.SUPPRESS)  # of which this process is to print the figures
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    makers = contenders(*(QUICK_STEPS if options.quick else STEPS))
    if options.contender:
        make = makers[options.contender]
        say(json.dumps(measure(make, Work(**json.loads(options.work)))))
        return
    rounds, tasks, channels, timed = (1, 2, 16, 1) if options.quick else (options.rounds, options.tasks, 64, 3)
    work = Work(tasks, channels, timed, options.clock, options.threads)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, values in found.items():
            values.append(in_a_process(name, work, options.quick))
    say(
        f"{tasks} tasks, {channels} filters, {options.threads} thread(s), {rounds} rounds, {options.clock} time; "
        "median (min to max)"
    )
    table(found, say)


if __name__ == "__main__":
    main()
