"""What Weights & Biases is to have of a run, written down before it is sent."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from metalit.runs.checkpoint_files import keep_old

RECORD_FILE = "wandb.jsonl"


class RunRecord:
    """A journal of all that a run sends to W&B, in the run folder: so that each row is sent once, whatever happens.

    A resumed run computes some steps again: those between its checkpoint and its interruption. Being resumed exactly,
    it finds the same numbers, and the journal tells that W&B needs them no second time. What W&B lost, because it was
    killed before it wrote, is sent again from the journal.

    A line of the file says one thing: the run's ``id``; a row (``step`` with ``metrics``, or with the ``files`` shown);
    ``results`` of a test; the ``first`` row that W&B is now being sent (``null`` if to its server); the folder of a
    part of the run that is ``finished``, so that W&B has all of it.

    Args:
        folder: the run folder.
        run_id: the id of a run that is new.
        anew: begin a new run, whatever the folder holds; the journal of an earlier run gets a number.
        others: files of the folder that are not of a run begun anew.

    Attributes:
        id: W&B's name for the run.
        rows: how many rows there are: the number of the next.
        metrics: by name, the training step and the value (``None`` if it is no number) that came last.
        results: what the last test found, by name.
        files: by name, the time of change (ns) of each file of the run folder that was sent.
        first: the first row that W&B may not have, because it was being sent offline and that was not finished.
        finished: the folders of finished parts.
    """

    def __init__(self, folder: Path, run_id: str, *, anew: bool = False, others: Iterable[Path] = ()) -> None:
        self.id = run_id
        self.rows = 0
        self.metrics: dict[str, tuple[int, float | None]] = {}
        self.results: dict[str, Any] = {}
        self.files: dict[str, int] = {}
        self.first: int | None = None
        self.finished: set[str] = set()
        self._path = folder / RECORD_FILE
        if anew:
            keep_old(self._path)
        drop_cut_line(self._path)
        lines = 0
        for line in read_lines(self._path):
            self._take(line)
            lines += 1
        if not lines:
            self._note({"id": run_id, "files": times_of(others) if anew else {}})

    def new_metrics(self, metrics: Mapping[str, Any], step: int) -> dict[str, Any]:
        """Return those metrics that have not come yet for this step, nor for a later one."""
        return {
            name: value for name, value in metrics.items() if step > self.metrics.get(name, (-1, None))[0]
        }

    def new_files(self, paths: Iterable[Path]) -> list[Path]:
        """Return those files that have not been sent as they are now."""
        return [path for path in paths if self.files.get(path.name) != path.stat().st_mtime_ns]

    def note_row(self, metrics: Mapping[str, Any], step: int, files: Iterable[Path] = ()) -> int:
        """Note a row, with what is in it, and return its number."""
        numbers = {name: value if isinstance(value, int | float) else None for name, value in metrics.items()}
        self._note({"step": step, "metrics": numbers, "files": times_of(files)})
        return self.rows - 1

    def note_results(self, results: Mapping[str, Any]) -> None:
        """Note final results."""
        self._note({"results": dict(results)})

    def note_begin(self, first: int | None) -> None:
        """Note that W&B is being sent rows from ``first`` on, offline; ``None`` if to its server, which counts them."""
        self._note({"first": first})

    def note_end(self, part: str) -> None:
        """Note that W&B has all that was sent, in a folder of this name."""
        self._note({"finished": part})

    def rows_from(self, first: int) -> Iterator[tuple[int, int, dict[str, float]]]:
        """Yield number, step and metrics of the rows from ``first`` on, to send again; their files are not sent yet."""
        rows = (line for line in read_lines(self._path) if "step" in line)
        for number, row in enumerate(rows):
            if number < first:
                continue
            for name in row["files"]:
                self.files.pop(name, None)
            numbers = {name: value for name, value in row["metrics"].items() if value is not None}
            if numbers:
                yield number, row["step"], numbers

    def summary(self) -> dict[str, Any]:
        """Return the latest value of everything: W&B wants it whole from each part of an interrupted run."""
        return {name: value for name, (_, value) in self.metrics.items() if value is not None} | self.results

    def last_step(self) -> int:
        """Return the latest training step of which there is anything, or 0."""
        return max((step for step, _ in self.metrics.values()), default=0)

    def _note(self, line: dict[str, Any]) -> None:
        self._take(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _take(self, line: Mapping[str, Any]) -> None:
        self.id = line.get("id", self.id)
        self.files |= line.get("files", {})
        self.results |= line.get("results", {})
        if "step" in line:
            self.rows += 1
            self.metrics |= {name: (line["step"], value) for name, value in line["metrics"].items()}
        if "finished" in line:
            self.finished.add(line["finished"])
        if "finished" in line or "first" in line:
            self.first = line.get("first")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what the lines of a journal say; nothing if it is not there."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def drop_cut_line(path: Path) -> None:
    """Take away the last line of a journal if a kill has cut it short."""
    content = path.read_bytes() if path.exists() else b"\n"
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def times_of(paths: Iterable[Path]) -> dict[str, int]:
    """Return when each file was changed, by its name."""
    return {path.name: path.stat().st_mtime_ns for path in paths}
