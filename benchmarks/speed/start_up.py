"""What commands cost before they do their work, in processor seconds, by ``benchmarks/start_up.py``."""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from .machine import ROOT
from .race import Case, Contender, Prepared, Setting

SCRIPT = "benchmarks.start_up"
YARDSTICK = "import lightning.pytorch"
COMMANDS = ("--version", "--help", "status", "fit --help", "fit, first step")
Round = dict[str, float]


def figure(name: str, rounds: list[Round], _: Setting) -> Prepared:
    """Return a contender whose turn is a figure of the round that the yardstick's turn has measured."""
    measure: Callable[..., Round] = importlib.import_module(SCRIPT).measure

    def turn() -> float:
        if name == YARDSTICK:
            rounds.append(measure(sys.executable, ROOT, False))
        return rounds[-1][name]

    return Prepared(turn)


def cases() -> list[Case]:
    """Return the one race, if the script is there."""
    if find_spec(SCRIPT) is None:
        return []
    rounds: list[Round] = []
    contenders = [Contender(name, partial(figure, name, rounds)) for name in (YARDSTICK, *COMMANDS)]
    return [Case("start-up", "start-up", contenders, unit="start")]
