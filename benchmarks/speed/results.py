"""What a case has found, as it is stored, and the file in which it is."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .race import Case, Found
from .statistics import Spread, ratios, spread


@dataclass(frozen=True)
class Ratio:
    """By how much one contender's time exceeds another's: median and quartiles over rounds."""

    one: str
    other: str
    median: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return str(Spread(self.median, self.lower, self.upper))


@dataclass(frozen=True)
class Result:
    """A case and what it has found; ``found`` is empty where the case failed.

    Attributes:
        name: of the case.
        section: of the case.
        unit: what the times are of: a step or an episode.
        found: seconds, first steps, losses, memory, and who was left out and why.
        ratios: of times.
        failed: the error that ended the case, or nothing.
        took: seconds for everything.
    """

    name: str
    section: str
    unit: str = "step"
    found: Found = field(default_factory=Found)
    ratios: Sequence[Ratio] = ()
    failed: str = ""
    took: float = 0.0

    @classmethod
    def of(cls, case: Case, found: Found, took: float) -> "Result":
        """Return the result of a case."""
        times = found.seconds
        taken = [
            Ratio(one, other, *ratios(times[one], times[other]))
            for one, other in case.pairs()
            if one in times and other in times
        ]
        return cls(case.name, case.section, case.unit, found, taken, took=took)

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Result":
        """Return a result that was stored."""
        given = stored | {"found": Found(**stored["found"]), "ratios": [Ratio(**each) for each in stored["ratios"]]}
        return cls(**given)

    def times(self) -> dict[str, Spread]:
        """Return median and quartiles of each contender's seconds."""
        return {name: spread(seconds) for name, seconds in self.found.seconds.items()}


def store(path: Path, told: dict[str, str], results: Sequence[Result], *, complete: bool) -> None:
    """Write the JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    found = {"machine": told, "complete": complete, "cases": [asdict(each) for each in results]}
    partial.write_text(json.dumps(found, indent=1) + "\n")
    partial.replace(path)


def load(path: Path) -> tuple[dict[str, str], list[Result]]:
    """Return the machine and the results of a finished run.

    Raises:
        ValueError: the run was not finished, or the file is no such file.
    """
    stored = json.loads(path.read_text())
    if not {"machine", "complete", "cases"} <= stored.keys():
        raise ValueError(f"{path} holds no figures of benchmarks.speed")
    if not stored["complete"]:
        raise ValueError(f"{path} is of a run that did not finish")
    return stored["machine"], [Result.read(each) for each in stored["cases"]]
