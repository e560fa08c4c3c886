"""Tables and files of texts as a source of examples."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from metalit.data.cache import Arrays
from metalit.data.columns import Columns, check_columns, label_from
from metalit.data.images.loading import OnBadFile
from metalit.data.tables import decoded
from metalit.data.texts.cells import text_from
from metalit.data.texts.listing import BadRow, Row, list_of, listed
from metalit.data.texts.marks import HEAD, TAIL
from metalit.data.texts.ragged import from_arrays
from metalit.data.texts.tables import OF_TEXTS, Tables
from metalit.data.texts.text_form import TextForm
from metalit.errors import SettingError, UserError
from metalit.inference.given import Given
from metalit.inference.sources import Source

LINE_END = re.compile(r"\r\n|\n|\r")  # and not what ``splitlines`` takes for one: a text may have it
SHOWN = 3  # texts or lines that a remark names


class TextFiles(Source):
    """Tables with a text and a label in each row, CSV, TSV, JSONL or parquet; a query may be lines of a .txt file too.

    Args:
        form: how the model takes texts.
        on_bad_file: refuse rows that cannot be used, or leave them out.
        columns: columns with unusual names, such as ``{text: body, label: topic}``.
    """

    noun, column, advice = "texts", "text", ""

    def __init__(self, form: TextForm, on_bad_file: OnBadFile = "error", columns: Columns | None = None) -> None:
        self.form, self.on_bad_file = form, on_bad_file
        self.columns = check_columns(columns, OF_TEXTS)

    def labelled(self, path: Path) -> Given:
        """Return the texts of a table, each once, sorted by class."""
        rows = list(self._rows(path, ("text", "label")))
        unmarked = [row for row in rows if not self._has_marks(row)]
        found = listed(row for row in rows if self._has_marks(row))
        bad = [*found.bad, *(BadRow(row.where, MARKS) for row in unmarked)]
        texts, labels = [entry.text for entry in found.entries], [entry.label for entry in found.entries]
        return self._given(path, texts, labels, bad)

    def unlabelled(self, path: Path) -> Given:
        """Return the texts of a table, in its order, with the labels that it has; or the lines of a .txt file."""
        is_table = path.suffix.lower() != ".txt"
        rows, blank = (self._rows(path, ("text",)), []) if is_table else lines_of(path)
        texts, labels, bad = list[str](), list[str](), list[BadRow]()
        for row in rows:
            try:
                text, label = text_from(row.text), "" if row.label in (None, "") else label_from(row.label)
                if not self._has_marks(row):
                    raise UserError(MARKS)
            except UserError as error:
                bad.append(BadRow(row.where, str(error)))
                continue
            texts.append(text)
            labels.append(label)
        remarks = [f"{path.name}: {blank_lines(blank)}"] if blank else []
        return self._given(path, texts, labels if any(labels) else [], bad, remarks)

    def remarks(self, support: Given, query: Given) -> Sequence[str]:
        """Say which texts stand in both sets: a prediction for them says little about new texts."""
        learned = set(support.names)
        both = [text for text in query.names if text in learned]
        if not both:
            return []
        shown = first_of(map(repr, both))
        which = "1 text of --query stands" if len(both) == 1 else f"{len(both)} texts of --query stand"
        return [f"{which} in --support too, word for word: {shown}"]

    def _rows(self, path: Path, needed: Sequence[str]) -> Iterable[Row]:
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            return Tables(path, self.columns, needed, "--columns").rows()
        except SettingError as error:
            raise UserError(f"{path} is no table of texts: expected {error.expected}") from error

    def _has_marks(self, row: Row) -> bool:
        return not self.form.marked or all(mark in str(row.text) for mark in (HEAD, TAIL))

    def _given(
        self, path: Path, texts: list[str], labels: list[str], bad: Sequence[BadRow], remarks: Sequence[str] = ()
    ) -> Given:
        if bad and self.on_bad_file == "error":
            many = "1 row" if len(bad) == 1 else f"{len(bad)} rows"
            raise UserError(
                f"{path}: {many} cannot be used: {list_of(bad)}; correct or remove them, or leave them out by "
                "--on_bad_file skip"
            )
        if not texts:
            raise UserError(f"there are no texts in {path}")
        arrays = self.form.arrays(texts)
        items, left_out = from_arrays(arrays).take(torch.arange(len(texts))), [f"{where}: {why}" for where, why in bad]
        remarks = [*remarks, *(f"{path.name}: {each}" for each in cut_texts(arrays))]
        return Given(items, texts, labels, left_out, remarks)


MARKS = f"it has no {HEAD} and {TAIL}, which mark two entities, as in [E1] Rome [/E1] lies in [E2] Italy [/E2]"


def lines_of(path: Path) -> tuple[list[Row], list[int]]:
    """Return (the lines of a text file, the numbers of blank ones, which are left out); they end as on any system.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is not in UTF-8; the message names the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    lines = LINE_END.split(decoded(path.read_bytes(), path.name))
    if not lines[-1]:  # behind the end of the last line there is none
        lines.pop()
    numbered = list(enumerate(lines, start=1))
    rows = [Row(f"{path.name}:{number}", line, None) for number, line in numbered if line.strip()]
    return rows, [number for number, line in numbered if not line.strip()]


def cut_texts(arrays: Arrays) -> list[str]:
    """Return how many texts are cut, and at which length, in words; nothing if none is."""
    count, total = int(arrays["cut"].sum()), len(arrays["cut"])
    if not count:
        return []
    # not data.max_length: a tokenizer may have a limit of its own below it
    limit = int(np.diff(arrays["offsets"]).max())
    which = f"1 of {total} texts is" if count == 1 else f"{count} of {total} texts are"
    return [f"{which} longer than {limit} tokens; the rest is cut off, as in training"]


def blank_lines(numbers: Sequence[int]) -> str:
    """Return that lines with these numbers, at least one, are blank, in words."""
    if len(numbers) == 1:
        return f"line {numbers[0]} is blank and left out"
    return f"{len(numbers)} blank lines are left out: {first_of(map(str, numbers))}"


def first_of(words: Iterable[str]) -> str:
    """Return the first few of some words."""
    words = list(words)
    return ", ".join(words[:SHOWN]) + (", ..." if len(words) > SHOWN else "")
