"""The machine in words, the table that grows line by line, and the JSON file that is complete after each line."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .plan import Result

ROOT = Path(__file__).parents[2]
WIDTHS = {"section": 9, "check": 36, "result": 8, "s": 6}


def machine(device: torch.device) -> dict[str, str]:
    """Return what a reader of the figures must know about where and when they were taken."""
    told = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", "-m", "benchmarks.gpu_check", *sys.argv[1:]]),
        "device": f"{device.type}: {device_name(device)}",
        "cpu": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) of torch",
        "python": platform.python_version(),
    }
    told |= {name: installed(name) for name in ("metalit", "torch", "lightning", "learn2learn")}
    told["commit"] = output("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "unknown"
    if device.type == "cuda":
        told["driver"] = output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "unknown"
        told["cuda"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        told["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return told


def device_name(device: torch.device) -> str:
    """Return the name of an accelerator with its memory, or that this is a dry run."""
    if device.type != "cuda":
        return "dry run, the CPU stands in for the GPU: tasks looped, so that rounding differs"
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {properties.major}.{properties.minor}"


def processor() -> str:
    """Return the name of the CPU, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed(package: str) -> str:
    """Return a package's version, or that it is missing."""
    try:
        return torch.__version__ if package == "torch" else version(package)
    except PackageNotFoundError:
        return "not installed"


def output(*command: str) -> str:
    """Return the first line that a program prints; nothing if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


class Report:
    """Prints every result at once and stores it at once, so that a stop loses nothing.

    Args:
        path: the JSON file, replaced.
        told: what ``machine`` says.
        say: prints a line.
    """

    def __init__(self, path: Path, told: dict[str, str], say: Callable[[str], None]) -> None:
        self.path, self.told, self.say = path, told, say
        self.results: list[Result] = []
        for name, words in told.items():
            say(f"{name + ':':13}{words}")
        say("")
        say(line({name: name for name in WIDTHS}, "figures"))
        say(line({name: "-" * width for name, width in WIDTHS.items()}, "-" * 9))
        self.store(complete=False)

    def add(self, result: Result) -> None:
        """Print and store one more result."""
        self.results.append(result)
        check = f"{result.row} {result.variant}".strip()
        cells = {"section": result.section, "check": check, "result": result.result}
        figures = [f"{name} {write(value)}" for name, value in result.figures.items()]
        cells["s"] = f"{result.seconds:.1f}"
        self.say(line(cells, ", ".join(figures) or result.note))
        self.store(complete=False)

    def finish(self) -> int:
        """Print the sum, store, and return the exit code: 1 if a check failed."""
        count = Counter(result.result for result in self.results)
        self.store(complete=True)
        words = ", ".join(f"{count[word]} {word}" for word in ("pass", "FAIL", "measured", "not run"))
        self.say(f"\n{words}; {sum(result.seconds for result in self.results):.0f} s; {self.path}")
        return 1 if count["FAIL"] else 0

    def store(self, complete: bool) -> None:
        """Write the JSON file, whole or not at all."""
        found: dict[str, Any] = {"machine": self.told, "complete": complete}
        found["results"] = [result.as_dict() for result in self.results]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(found, indent=1) + "\n")
        partial.replace(self.path)


def line(cells: dict[str, str], last: str) -> str:
    """Return one line of a Markdown table whose last column is free."""
    padded = [f"{cells[name]:{width}}" for name, width in WIDTHS.items()]
    return f"| {' | '.join(padded)} | {last} |"


def write(value: float | str) -> str:
    """Return a figure in few characters."""
    return value if isinstance(value, str) else f"{value:.3g}"
