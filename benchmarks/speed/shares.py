"""Where the time of a step of ``metalit fit`` goes: the shares of its parts in a small network's step.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.shares

The command line trains ``configs/sinusoid/maml.yaml``. After the step is compiled, the stack is looked at every half
millisecond of processor time, and each look belongs to one part. Looks are cheap, so that the shares are those of a
training without them; a profiler that follows every call would make many short calls look dear.
"""

import argparse
import signal
from collections import Counter
from collections.abc import Sequence
from types import FrameType
from typing import Any

import lightning as L
import torch

from .fit import Clock, command_line
from .race import CLOCKS, Setting

Stack = tuple[tuple[str, str], ...]  # (file, function), the innermost first
INTERVAL = 0.0005  # seconds of processor time from one look to the next
OTHERS = "Lightning's loops and hooks, and what torch puts around an optimiser"
# A look belongs to the first part one of whose (file, function) is on the stack; no function: any of the file.
PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "evaluation": (("lightning/pytorch/loops/evaluation_loop.py", ""),),
    "compiled kernels": (("torch/_inductor/output_code.py", ""),),
    "around the kernels: the compiler's guards and wrappers": (("metalit/engine/engine.py", "meta_gradient"),),
    "logging": (("metalit/algorithms/meta_learner.py", "_log_training"), ("/logger_connector.py", "")),
    "`training_step` around the compiled step": (("metalit/algorithms/meta_learner.py", "training_step"),),
    "handing over and checking the gradient": (("metalit/algorithms/meta_learner.py", ""), ("torch/_tensor.py", "")),
    "the optimiser's kernel": (("torch/optim/adam.py", "adam"),),
    "episodes": (("metalit/data/", ""),),
    "callbacks": (("metalit/runs/", ""), ("metalit/evaluation/", "")),
}


def part_of(frames: Stack) -> str:
    """Return the part to which a stack of (file, function) belongs."""
    for part, places in PARTS.items():
        if any(file in there and name in ("", function) for there, function in frames for file, name in places):
            return part
    return OTHERS


class Looks(Clock):
    """Looks at the stack from step ``first`` to the end of training."""

    def __init__(self, first: int) -> None:
        super().__init__(CLOCKS["cpu"], first)
        self.stacks: Counter[Stack] = Counter()

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Start after the warm-up."""
        super().on_train_batch_start(trainer, *args)
        if trainer.global_step == self.first:
            signal.signal(signal.SIGPROF, self.look)
            signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def look(self, number: int, frame: FrameType | None) -> None:
        """Note what is running."""
        # without comprehensions: torch's compiler is on for a moment of each step, and would refuse a generator
        frames = []
        while frame is not None:
            frames.append((frame.f_code.co_filename, frame.f_code.co_name))
            frame = frame.f_back
        self.stacks[tuple(frames)] += 1


def table(stacks: Counter[Stack]) -> str:
    """Return the shares of training, the largest first."""
    looks: Counter[str] = Counter()
    for stack, count in stacks.items():
        looks[part_of(stack)] += count
    training = {part: count for part, count in looks.most_common() if part != "evaluation"}
    total = sum(training.values())
    rows = [f"| {part} | {count / total:.1%} |" for part, count in training.items()]
    return "\n".join(["| part of a step | share |", "| --- | --- |", *rows, "", f"{total} looks"])


def main(args: Sequence[str] | None = None) -> None:
    """Train, and print the table."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--steps", type=int, default=4000, help="steps that are looked at")
    options.add_argument("--smoke", action="store_true", help="a few steps, uncompiled: does it run?")
    given = options.parse_args(args)
    torch.set_num_threads(1)
    setting = Setting(clock="cpu", threads=1, smoke=given.smoke)
    first, steps = (10, 40) if given.smoke else (200, given.steps)
    looks = Looks(first)
    try:
        command_line(setting, first + steps, looks)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    print(table(looks.stacks))


if __name__ == "__main__":
    main()
