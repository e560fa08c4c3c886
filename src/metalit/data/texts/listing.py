"""What every form of a data set of texts becomes: a list of texts with their classes, cleaned."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from metalit.data.class_splits import split_numbers
from metalit.data.columns import label_from
from metalit.data.stream import Integers, Split
from metalit.data.texts.cells import text_from
from metalit.errors import UserError

SHOWN = 10  # rows named in a message
START = 60  # characters of a text that stand in its name


class Row(NamedTuple):
    """One row of a file, not yet checked.

    Attributes:
        where: file and line.
        text: the cell with the text.
        label: the cell with the label.
        split: the split that the data set gives it, if it does.
        group: what belongs together, such as a domain, if the data set says so.
    """

    where: str
    text: Any
    label: Any
    split: Split | None = None
    group: str | None = None


class TextEntry(NamedTuple):
    """One text.

    Attributes:
        label: name of its class.
        name: what messages and results call it: file, line and the beginning of the text.
        text: the text.
        split: the split that the data set gives it, if it does.
        group: what belongs together, if the data set says so.
    """

    label: str
    name: str
    text: str
    split: Split | None = None
    group: str | None = None


class BadRow(NamedTuple):
    """A row that cannot be used: file and line, and the reason."""

    where: str
    reason: str


@dataclass(frozen=True)
class TextListing:
    """All texts of a data set.

    Attributes:
        entries: sorted by class; within one in the order of the files.
        bad: rows that cannot be used.
        repeated: number of rows with a text that its class has already; they are left out.
        contradicted: number of texts that are left out because they are in two classes.
    """

    entries: Sequence[TextEntry]
    bad: Sequence[BadRow] = ()
    repeated: int = 0
    contradicted: int = 0

    @property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return list(dict.fromkeys(entry.label for entry in self.entries))

    @property
    def labels(self) -> Integers:
        """``[n]`` int64, the number of each text's class."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers[entry.label] for entry in self.entries], dtype=np.int64)

    @property
    def names(self) -> list[str]:
        """``n`` names, as in ``TextEntry``."""
        return [entry.name for entry in self.entries]

    @property
    def splits(self) -> Integers:
        """``[n]`` int64, the number in ``SPLITS`` that the data set gives each text, -1 for none."""
        return split_numbers(entry.split for entry in self.entries)

    @property
    def groups(self) -> list[str | None]:
        """``n`` groups, None for a text without."""
        return [entry.group for entry in self.entries]

    @property
    def state(self) -> str:
        """A digest that changes with any of the texts."""
        texts = hashlib.sha256()
        for entry in self.entries:
            texts.update(entry.text.encode(errors="surrogatepass") + b"\0")
        return texts.hexdigest()


class TextSource(ABC):
    """A form in which people have texts."""

    @abstractmethod
    def rows(self) -> Iterable[Row]:
        """Yield all rows, good or bad.

        Raises:
            UserError: a file cannot be read; the message names file and line.
        """


def listed(rows: Iterable[Row], refuse_contradictions: bool = True) -> TextListing:
    """Return the texts of rows: each once, and none that is in two classes.

    The same text twice in a class could be in the support and in the query set of an episode, so the first stays. A
    text in two classes is left out, for either label may be the wrong one.

    Args:
        rows: the rows, good or bad.
        refuse_contradictions: whether a text in two classes is a bad row; published data sets have a few.
    """
    entries, bad, repeated = [], [], 0
    first: dict[str, tuple[str, str]] = {}
    contradicted: set[str] = set()
    for row in rows:
        try:
            text, label = text_from(row.text), label_from(row.label)
        except UserError as error:
            bad.append(BadRow(row.where, str(error)))
            continue
        other, where = first.setdefault(text, (label, row.where))
        if other != label:
            contradicted.add(text)
            if refuse_contradictions:
                reason = f"its text is in class {label}, and in class {other} too ({where}): {text[:START]!r}"
                bad.append(BadRow(row.where, reason))
        elif where != row.where:
            repeated += 1
        else:
            name = f"{row.where}: {text[:START]}{'...' if len(text) > START else ''}"
            entries.append(TextEntry(label, name, text, row.split, row.group))
    entries = [entry for entry in entries if entry.text not in contradicted]
    return TextListing(sorted(entries, key=attrgetter("label")), bad, repeated, len(contradicted))


def list_of(bad: Sequence[BadRow]) -> str:
    """Return bad rows in words, the first ten by name."""
    shown = "; ".join(f"{where}: {reason}" for where, reason in bad[:SHOWN])
    return shown if len(bad) <= SHOWN else f"{shown}; and {len(bad) - SHOWN} more"


def refuse(bad: Sequence[BadRow]) -> None:
    """Refuse bad rows, if there are any, all in one message."""
    if bad:
        many = "1 row" if len(bad) == 1 else f"{len(bad)} rows"
        raise UserError(
            f"{many} cannot be used: {list_of(bad)}; correct or remove them, or set data.on_bad_row to skip"
        )
