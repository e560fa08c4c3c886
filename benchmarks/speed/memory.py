"""How much memory a step takes beyond what was there before it."""

import ctypes
import gc
import warnings
from pathlib import Path

import torch

from .race import Contender, LeftOutError, Setting, Step

PROCESS = Path("/proc/self")


def mib_of_step(contender: Contender, setting: Setting) -> float:
    """Return the MiB that a step adds at its peak, after a first step has loaded and compiled what it needs.

    On a CPU: the peak of this process, reset just before the step, less its size then; so it must be called in a
    process of its own. On a GPU: the same, of what torch has allocated.

    Raises:
        LeftOutError: the system does not tell, or the contender has no single step.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = contender.prepare(setting).step
        if step is None:
            raise LeftOutError("its turn is no single step")
        step()
        return on_gpu(step, setting) if setting.device.type == "cuda" else on_cpu(step)


def on_gpu(step: Step, setting: Setting) -> float:
    """Return the MiB that torch allocates for a step."""
    setting.wait()
    torch.cuda.reset_peak_memory_stats(setting.device)
    before = torch.cuda.memory_allocated(setting.device)
    step()
    setting.wait()
    return (torch.cuda.max_memory_allocated(setting.device) - before) / 2**20


def on_cpu(step: Step) -> float:
    """Return the MiB by which the peak of this process exceeds its size before the step."""
    gc.collect()
    forget_peak()
    before = status("VmRSS")
    step()
    return (status("VmHWM") - before) / 2**10


def forget_peak() -> None:
    """Return freed memory to the system and set the peak of this process to its present size.

    Raises:
        LeftOutError: the system has no such means.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError as error:
        raise LeftOutError(f"memory is measured on Linux alone ({error})") from error


def status(name: str) -> int:
    """Return a figure of this process, in KiB."""
    lines = (PROCESS / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
