"""A race: contenders take turns in one process, so that they share whatever else the machine is doing."""

import gc
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch

Step = Callable[[], Any]  # one training step; returns its loss, if it has one
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
LEAST_ROUNDS = 3
TURN, SHORT_TURN = 0.25, 0.0  # seconds that a turn lasts at least
ORDINARY = 20.0  # seconds for the rounds of a case


class LeftOutError(Exception):
    """A contender that cannot take part here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """How a race is run.

    Attributes:
        device: where the steps run.
        dtype: floating point type of weights and inputs.
        clock: time that passes (``wall``), or processor time of the process (``cpu``), where other programs compete
            for the same cores. On a GPU events are timed.
        rounds: turns of each contender, at most.
        seconds: an ordinary case takes no further round after so many seconds, once it has three.
        threads: threads of torch.
        smoke: a little work instead of the whole.
    """

    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    dtype: torch.dtype = torch.float32
    clock: str = "wall"
    rounds: int = 7
    seconds: float = ORDINARY
    threads: int = 1
    smoke: bool = False

    def inner(self, steps: int) -> int:
        """Return how many inner steps a step has: two at most in a smoke run."""
        return min(steps, 2) if self.smoke else steps

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Prepared(NamedTuple):
    """A contender that is ready.

    Attributes:
        turn: takes a turn and returns the seconds of one step (or episode).
        step: a single step, whose loss and memory can be looked at; None where a turn is more than steps.
    """

    turn: Callable[[], float]
    step: Step | None = None


@dataclass(frozen=True)
class Contender:
    """Somebody in a race.

    Attributes:
        name: its column in the tables.
        prepare: makes it ready; raises ``LeftOutError`` or ``ImportError`` where it cannot take part.
        same_loss: whether its first loss must equal that of the reference.
        optional: another library, which may break off: then the case goes on without it and says so.
    """

    name: str
    prepare: Callable[[Setting], Prepared]
    same_loss: bool = True
    optional: bool = False


@dataclass(frozen=True)
class Case:
    """What is measured, and who takes part.

    Attributes:
        name: words joined by ``/``, the most general first; ``--only`` takes the beginning of a name.
        section: the table in which it stands.
        contenders: at least one; the first is the reference, whose loss the others' must equal.
        compared: (one, other) by name: the ratios that are taken; by default, everybody's to the reference.
        seconds: as in ``Setting``, for a case that needs more than an ordinary one; scaled by what is set there.
        memory: whether the memory of a step is measured as well.
        unit: what a turn counts.
    """

    name: str
    section: str
    contenders: Sequence[Contender]
    compared: Sequence[tuple[str, str]] = ()
    seconds: float = ORDINARY
    memory: bool = False
    unit: str = "step"

    def pairs(self) -> Sequence[tuple[str, str]]:
        """Return (one, other) of each ratio."""
        reference, *others = (each.name for each in self.contenders)
        return self.compared or [(other, reference) for other in others]


@dataclass
class Found:
    """What a race has found out, each by contender.

    Attributes:
        seconds: of a step, in each round.
        first: seconds of the first step, with everything that is compiled or loaded in it.
        losses: of the first step.
        left_out: why a contender did not take part.
        mib: memory that a step takes, in MiB.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    mib: dict[str, float] = field(default_factory=dict)


def seconds_of(step: Step, count: int, setting: Setting) -> float:
    """Return the seconds of one of ``count`` steps."""
    if setting.device.type != "cuda":
        now = CLOCKS[setting.clock]
        start = now()
        for _ in range(count):
            step()
        return (now() - start) / count
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    setting.wait()
    begin.record()
    for _ in range(count):
        step()
    end.record()
    setting.wait()
    return float(begin.elapsed_time(end)) / 1e3 / count


def stepping(make: Callable[[Setting], Step]) -> Callable[[Setting], Prepared]:
    """Return what prepares a contender whose turn is as many steps as fill a quarter of a second."""

    def prepare(setting: Setting) -> Prepared:
        step, counts = make(setting), list[int]()

        def turn() -> float:
            if not counts:  # from a second step, for the first one loads and compiles
                once = max(seconds_of(step, 1, setting), 1e-6)
                counts.append(max(1, round((SHORT_TURN if setting.smoke else TURN) / once)))
            return seconds_of(step, counts[0], setting)

        return Prepared(turn, step)

    return prepare


def prepared(contender: Contender, setting: Setting, found: Found) -> Prepared | None:
    """Prepare a contender and take its first step; None, and a note of the reason, where it cannot take part."""
    excuses = (LeftOutError, ImportError)
    caught = (Exception,) if contender.optional else excuses
    try:
        ready = contender.prepare(setting)
        if ready.step is not None:
            start = time.perf_counter()
            loss = ready.step()
            setting.wait()
            found.first[contender.name] = time.perf_counter() - start
            if loss is not None:
                found.losses[contender.name] = float(loss)
    except caught as error:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, excuses) else str(error)
        found.left_out[contender.name] = reason.partition("\n")[0]
        return None
    return ready


def race(case: Case, setting: Setting) -> Found:
    """Let the contenders of a case take turns.

    Raises:
        ArithmeticError: two contenders that should compute the same have different first losses.
    """
    found = Found()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about the machine, and what peers say about today's torch
        ready = {each.name: prepared(each, setting, found) for each in case.contenders}
        check_losses(case, setting, found)
        turns = {name: each.turn for name, each in ready.items() if each is not None}
        found.seconds = {name: [] for name in turns}
        take_turns(turns, found.seconds, setting.rounds, case.seconds * setting.seconds / ORDINARY)
    return found


def take_turns(
    turns: dict[str, Callable[[], float]], times: dict[str, list[float]], rounds: int, seconds: float
) -> None:
    """Append the figures of so many rounds, or of those that begin within so many seconds, but of three at least."""
    start = time.monotonic()
    for played in range(rounds):
        if played >= LEAST_ROUNDS and time.monotonic() - start > seconds:
            break
        gc.collect()
        for name, turn in turns.items():
            times[name].append(turn())


def check_losses(case: Case, setting: Setting, found: Found) -> None:
    """Refuse a race between contenders that compute different things.

    Raises:
        ArithmeticError: names both losses.
    """
    reference = case.contenders[0].name
    tolerance = {torch.float64: 1e-8, torch.float32: 1e-4}.get(setting.dtype, 5e-2)
    if setting.device.type == "cuda":
        tolerance = max(tolerance, 1e-2)  # convolutions in TF32, cuDNN's default
    for each in case.contenders:
        if not each.same_loss or not {reference, each.name} <= found.losses.keys():
            continue
        own, expected = found.losses[each.name], found.losses[reference]
        if not abs(own - expected) <= tolerance * max(abs(expected), 1e-3):
            raise ArithmeticError(
                f"{case.name}: the first loss of {each.name} is {own:.6g}, that of {reference} {expected:.6g}"
            )
