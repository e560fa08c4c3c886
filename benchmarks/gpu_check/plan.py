"""What is to be checked, in which order, and how much of the time each section may take."""

import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

# The most valuable first. A section has its share of the time, and what the sections before it left.
SHARES = {
    "rows": 0.50,
    "speed": 0.15,
    "precision": 0.12,
    "compile": 0.12,
    "ddp": 0.04,
    "resume": 0.04,
    "memory": 0.03,
}


class NotRunError(Exception):
    """A check that this machine cannot run; the message says why."""


class TimeIsUp(BaseException):  # no error, and nothing that a compiler may catch
    """The section of the running check has used up its time."""


@dataclass(frozen=True)
class Found:
    """What a check has found.

    Attributes:
        figures: numbers and words by name.
        passed: whether all figures are within their limits; None for a measurement without a limit.
    """

    figures: dict[str, float | str]
    passed: bool | None = None


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        section: one of ``SHARES``.
        row: what is trained, as ``algorithm/domain``.
        variant: which of several checks of a row.
        run: checks; called with the seconds that are left.
    """

    section: str
    row: str
    variant: str
    run: Callable[[float], Found]


@dataclass(frozen=True)
class Result:
    """A line of the table: ``result`` is pass, FAIL, measured or not run."""

    section: str
    row: str
    variant: str
    result: str
    seconds: float
    figures: dict[str, float | str] = field(default_factory=dict)
    note: str = ""
    trace: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return what is not empty, for JSON."""
        return {key: value for key, value in asdict(self).items() if value != "" and value != {}}


def select(checks: Sequence[Check], only: Sequence[str]) -> list[Check]:
    """Return the checks that are asked for: by section, and by row or algorithm.

    Raises:
        ValueError: a name is neither a section nor a row.
    """
    rows = {name for check in checks for name in (check.row, check.row.partition("/")[0])}
    unknown = sorted(set(only) - rows - set(SHARES))
    if unknown:
        raise ValueError(
            f"there is no row or section {', '.join(unknown)}; sections are {', '.join(SHARES)}, and rows "
            f"{', '.join(sorted(name for name in rows if '/' in name))}; an algorithm's name means all its rows"
        )
    sections, named = set(only) & set(SHARES), set(only) & rows
    return [
        check
        for check in checks
        if (not sections or check.section in sections)
        and (not named or {check.row, check.row.partition("/")[0]} & named)
    ]


def run(checks: Sequence[Check], seconds: float) -> Iterator[Result]:
    """Run checks section by section and yield each one's result; a check without time is a result too."""
    start, share = time.monotonic(), 0.0
    total = sum(SHARES[section] for section in {check.section for check in checks})
    for section, own in SHARES.items():
        chosen = [check for check in checks if check.section == section]
        share += own / total if chosen else 0.0
        for check in chosen:
            yield attempt(check, start + share * seconds)


def attempt(check: Check, deadline: float) -> Result:
    """Run one check until ``deadline`` (of the monotonic clock) and say how it ended."""
    begin = time.monotonic()

    def result(word: str, **more: Any) -> Result:
        return Result(check.section, check.row, check.variant, word, time.monotonic() - begin, **more)

    if begin >= deadline:
        return result("not run", note=f"no time left for section {check.section}")
    try:
        with time_limit(deadline - begin):
            found = check.run(deadline - begin)
    except TimeIsUp:
        return result("not run", note=f"broken off: no time left for section {check.section}")
    except NotRunError as reason:
        return result("not run", note=str(reason))
    except Exception as error:
        words = f"{type(error).__name__}: {error}".partition("\n")[0]
        return result("FAIL", note=words, trace=traceback.format_exc())
    word = "measured" if found.passed is None else "pass" if found.passed else "FAIL"
    return result(word, figures=found.figures)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeIsUp`` in the main thread after so many seconds; a timer that is running already goes on."""

    def stop(*_: Any) -> None:
        raise TimeIsUp

    start, before = time.monotonic(), signal.signal(signal.SIGALRM, stop)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - start), 1e-3))
