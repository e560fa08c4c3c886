"""The command line of the check."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from benchmarks.speed.machine import ROOT, checked_device

from metalit import Engine

from . import __doc__ as about
from . import agreement, plan, report, speed
from .training import Place, rows


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser("gpu_check", description=(about or "").partition("\n")[0])
    options.add_argument("--device", default="cuda", help="cuda, cuda:1, ..., or cpu for a dry run")
    options.add_argument("--only", action="append", default=[], metavar="ROW",
                         help="an algorithm, a row such as MAML/glyphs, or a section; may be repeated")  # fmt: skip
    options.add_argument("--minutes", type=float, default=8.0, help="time for everything; what does not fit is said")
    options.add_argument("--json", type=Path, help="where to store the results; benchmarks/gpu_check_DEVICE.json")
    return options


def place_of(name: str) -> Place:
    """Return where to train; on a CPU tasks are looped, for two equal computations would show nothing.

    Raises:
        ValueError: there is no such device.
    """
    device = checked_device(name)
    if device.type == "cpu":
        return Place(device, Engine("loop"))
    torch.cuda.set_device(device)  # events and peaks are those of the current device
    return Place(device)


def main(args: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Check, print a table, store it, and return the exit code: 1 if a check failed."""
    options = parser().parse_args(args)
    try:
        if options.minutes <= 0:
            raise ValueError(f"--minutes is {options.minutes:g}, but must be above 0")
        place = place_of(options.device)
        checks = plan.select(speed.checks(place) + agreement.checks(rows(), place), options.only)
    except ValueError as error:
        parser().error(str(error))
    path = options.json or ROOT / "benchmarks" / f"gpu_check_{place.device.type}.json"
    written = report.Report(path, report.machine(place.device), say)
    with quiet():
        for result in plan.run(checks, 60 * options.minutes):
            written.add(result)
    return written.finish()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep advice about the machine, and what each of a hundred trainers says, out of the table."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


if __name__ == "__main__":
    sys.exit(main(say=lambda line: print(line, flush=True)))
