"""The machine in words, the table that grows line by line, and the JSON file that is complete after each line."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.machine import machine as describe

from .plan import Result

WIDTHS = {"section": 9, "check": 66, "result": 8, "s": 6}


def machine(device: torch.device) -> dict[str, str]:
    """Return what a reader of the figures must know about where and when they were taken."""
    told = describe(device, "benchmarks.gpu_check")
    if device.type != "cuda":
        told["device"] = (
            f"{device.type}: dry run, the CPU stands in for the GPU: tasks looped, so that rounding differs"
        )
    return told


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
