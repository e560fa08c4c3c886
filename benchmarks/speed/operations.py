"""Where the time of a step goes: the shares of its operations, by torch's functions over vmap and by the kernels."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch
from torch.profiler import ProfilerActivity, profile

from metalit import Engine

from . import own, tables
from .problems import PROBLEMS
from .race import Setting, Step

KERNELS = "metalit's kernels"
GROUPS = {  # an operation belongs to the first group that has a pattern for it
    KERNELS: ("_Forward*", "_Backward*", "_DoubleBackward*"),
    "convolutions": ("*convolution*",),
    "batch norm": ("*batch_norm*",),
    "max-pooling": ("*max_pool2d*",),
    "products, sums, ReLU": ("aten::mul*", "aten::add*", "aten::su[bm]*", "aten::clamp_min*", "aten::threshold*"),
    "copies and fills": ("aten::copy_", "aten::fill_", "aten::zero*", "aten::clone", "aten::contiguous", "aten::cat"),
    "all else": ("*",),
}


def shares(step: Step) -> dict[str, float]:
    """Return the seconds of each group of operations in a step, after a first one; an operation's own time alone."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    seconds = dict.fromkeys(GROUPS, 0.0)
    for each in found.key_averages():
        group = next(name for name, patterns in GROUPS.items() if any(fnmatchcase(each.key, p) for p in patterns))
        seconds[group] += each.self_cpu_time_total / 1e6
    return seconds


def table(before: dict[str, float], after: dict[str, float]) -> str:
    """Return both as a Markdown table, in milliseconds and shares of the step before."""
    whole = sum(before.values())
    lines: list[Sequence[str]] = [("", "torch's functions over vmap", KERNELS), ("---",) * 3]
    lines += [(name, *(cell(each[name], whole) for each in (before, after))) for name in GROUPS]
    lines.append(("together", *(cell(sum(each.values()), whole) for each in (before, after))))
    return "\n".join(map(tables.row, lines))


def cell(seconds: float, whole: float) -> str:
    """Return a time and its share."""
    return f"{1e3 * seconds:,.0f} ms, {seconds / whole:.0%}" if seconds else ""


def main(args: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Print the table of a step on a CPU; return the exit code."""
    options = argparse.ArgumentParser("python -m benchmarks.speed.operations", description=(__doc__ or "").strip())
    images = [name for name in PROBLEMS if name != "sine"]
    options.add_argument("problem", choices=images, nargs="?", default="omniglot-pool", help="network and tasks")
    options.add_argument("--tasks", type=int, default=8, help="in a batch")
    options.add_argument("--order", type=int, choices=(1, 2), default=2, help="of the meta-gradient")
    options.add_argument("--steps", type=int, default=5, help="inner steps")
    options.add_argument("--smoke", action="store_true", help="a little of it: does it run?")
    chosen = options.parse_args(args)
    torch.set_num_threads(1)  # an operation's own time is that of the thread which called it
    setting, problem = Setting(smoke=chosen.smoke), replace(PROBLEMS[chosen.problem], tasks=chosen.tasks)
    engines = Engine("vmap", kernels="torch"), Engine()
    found = [shares(own.maml(problem, chosen.order, chosen.steps, engine)(setting)) for engine in engines]
    say(table(*found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
