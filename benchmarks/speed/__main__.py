"""The command line."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from . import __doc__ as about
from . import machine, processes, results, tables
from .cases import select
from .race import CLOCKS, ORDINARY, Case, Setting

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
PAGE, FIGURE = machine.ROOT / "docs" / "speed.md", machine.ROOT / "docs" / "figures" / "speed.png"
PROGRAM = "benchmarks.speed"


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(f"python -m {PROGRAM}", description=(about or "").partition("\n")[0])
    options.add_argument("--only", nargs="+", default=[], metavar="CASE",
                         help="beginnings or parts of cases' names: sine, step/mini, order-1, methods")  # fmt: skip
    options.add_argument("--rounds", type=int, default=7, help="turns of each contender, at most")
    options.add_argument("--seconds", type=float, default=ORDINARY,
                         help="for the rounds of an ordinary case, large ones have up to four times as many; three "
                         "rounds are run in any case")  # fmt: skip
    options.add_argument("--threads", type=int, default=2, help="threads, and cores that any contender may use")
    options.add_argument("--clock", choices=CLOCKS, default="wall",
                         help="time that passes, or processor time where others use the cores too")  # fmt: skip
    options.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    options.add_argument("--dtype", choices=DTYPES, default="float32", help="of weights and inputs")
    options.add_argument("--smoke", action="store_true", help="a little of every case: does it run?")
    options.add_argument("--out", type=Path, default=machine.ROOT / "runs" / "speed", help="folder of the results")
    options.add_argument("--list", action="store_true", help="name the cases and end")
    options.add_argument("--record", type=Path, metavar="JSON",
                         help="measure nothing: write a finished run into docs/speed.md")  # fmt: skip
    return options


def setting_of(options: argparse.Namespace) -> Setting:
    """Return how races are run.

    Raises:
        ValueError: an option is out of range, or there is no such device.
    """
    for name in ("rounds", "seconds", "threads"):
        if getattr(options, name) <= 0:
            raise ValueError(f"--{name} is {getattr(options, name)}, but must be above 0")
    return Setting(
        device=machine.checked_device(options.device),
        dtype=DTYPES[options.dtype],
        clock=options.clock,
        rounds=1 if options.smoke else options.rounds,
        seconds=options.seconds,
        threads=options.threads,
        smoke=options.smoke,
    )


def measured(case: Case, setting: Setting) -> results.Result:
    """Return the result of a case, or how it failed."""
    start = time.monotonic()
    try:
        found = processes.of_case(case.name, setting)
    except Exception as error:
        words = f"{type(error).__name__}: {error}".partition("\n")[0]
        return results.Result(case.name, case.section, failed=words, took=time.monotonic() - start)
    return results.Result.of(case, found, time.monotonic() - start)


def record(path: Path) -> None:
    """Write a finished run into the page."""
    told, found = results.load(path)
    tables.write_into(PAGE, "speed", tables.page(told, found))
    tables.draw(found, FIGURE)


def main(args: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Measure, print a table for each case, store everything; return the exit code: 1 if a case failed."""
    options = parser().parse_args(args)
    try:
        if options.record:
            record(options.record)
            return 0
        setting, chosen = setting_of(options), select(options.only)
    except (ValueError, OSError) as error:
        parser().error(str(error))
    if options.list:
        say("\n".join(case.name for case in chosen))
        return 0
    return run(chosen, setting, options.out, say)


def run(chosen: Sequence[Case], setting: Setting, out: Path, say: Callable[[str], None]) -> int:
    """Measure cases, one after the other; what is stored is complete after each."""
    processes.prepare(setting.threads)
    torch.set_num_threads(setting.threads)
    told = machine.machine(setting.device, PROGRAM, machine.PACKAGES + machine.PEERS)
    told |= {"clock": setting.clock, "dtype": str(setting.dtype).removeprefix("torch.")}
    say("\n".join(f"{name + ':':13}{words}" for name, words in told.items()))
    start, found = time.monotonic(), list[results.Result]()
    for case in chosen:
        found.append(measured(case, setting))
        results.store(out / "speed.json", told, found, complete=len(found) == len(chosen))
        say(f"\n{tables.table(found[-1])}\n({found[-1].took:.0f} s)")
    (out / "speed.md").write_text(tables.page(told, found) + "\n")
    tables.draw(found, out / "speed.png")
    failed = [result.name for result in found if result.failed]
    say(f"\n{len(found)} cases in {(time.monotonic() - start) / 60:.1f} minutes, {len(failed)} failed; {out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(say=lambda line: print(line, flush=True)))
