"""Which column of a table, or which entry of a JSON object, holds what."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metalit.data.class_splits import split_of
from metalit.data.stream import Split
from metalit.errors import SettingError, UserError

SHOWN = 60  # characters of a cell in a message
Columns = Mapping[str, str]
Known = Mapping[str, tuple[str, ...]]

# Names in use for each meaning, in lower case; the first that a table has is taken.
SPLIT = ("split", "subset", "partition")
GROUP = ("group", "super_category", "supercategory", "superclass", "coarse_label")
OF_IMAGES: Known = {
    "file": ("file_name", "filename", "file", "path", "filepath", "image", "img", "image_path", "image_file"),
    "label": ("label", "class", "category", "class_name", "species", "target", "labels", "fine_label", "cls"),
    "split": SPLIT,
    "group": GROUP,
}
NEEDED = ("file", "label")


def check_columns(columns: Columns | None, known: Known = OF_IMAGES) -> Columns:
    """Return what the user says about columns; unknown meanings are refused."""
    _check_meanings(columns or {}, known)
    return dict(columns or {})


def check_image_columns(columns: Mapping[str, str | Sequence[str]] | None) -> tuple[Columns, Sequence[str]]:
    """Return what the user says about columns, and those of a label in several; unknown meanings are refused."""
    _check_meanings(columns or {}, OF_IMAGES)
    said: dict[str, str] = {}
    hot: Sequence[str] = ()
    for meaning, name in (columns or {}).items():
        if isinstance(name, str):
            said[meaning] = name
        elif meaning == "label" and len(name) > 1:
            hot = list(name)
        else:
            raise SettingError("columns", f"{meaning}: {name}", "one column, or for label the columns of all classes")
    return said, hot


def find_columns(
    names: Iterable[str],
    where: str,
    said: Columns,
    needed: Iterable[str] = NEEDED,
    known: Known = OF_IMAGES,
    option: str = "data.columns",
) -> dict[str, str]:
    """Return the column of each meaning that a table has.

    Args:
        names: the columns of the table.
        where: name of the table, for messages.
        said: what the user or the data set says; the rest goes by name.
        needed: meanings that must be there.
        known: names in use for each meaning.
        option: the option by which a user says it, for messages.

    Raises:
        UserError: a column is missing, or there twice; the message names those that there are.
    """
    names = list(names)
    lower = {str(name).strip().lower(): name for name in reversed(names)}
    found: dict[str, str] = {}
    for meaning, usual in known.items():
        if meaning in said:
            if said[meaning] not in names:
                raise UserError(f"{where}: it has no column {said[meaning]}, only {', '.join(map(str, names))}")
            found[meaning] = said[meaning]
        elif name := next((name for name in usual if name in lower), None):
            found[meaning] = lower[name]
    if twice := [name for name in found.values() if names.count(name) > 1]:
        raise UserError(f"{where}: it has two columns called {twice[0]}: rename one")
    if missing := [meaning for meaning in needed if meaning not in found]:
        raise UserError(
            f"{where}: it has no column for the {missing[0]}, only {', '.join(map(str, names)) or 'none'}: rename one, "
            f"or say which by {option}, such as {{{missing[0]}: NAME}}"
        )
    return found


def composed(name: str) -> str:
    """Return a name in Unicode's composed form: macOS writes "é" as two characters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def label_from(value: Any) -> str:
    """Return the class that a cell names.

    Raises:
        UserError: it names none, or several, or has half a character.
    """
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise UserError(f"its label is {shown(value)}, expected the name or number of one class")
    return composed(whole(str(value).strip(), "label"))


def whole(text: str, meaning: str) -> str:
    """Return a text, refused if it has a half of one of UTF-16's pairs, which no file and no tokenizer takes.

    JSON can have one, as an escape, where a text was cut inside an emoji.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"its {meaning} has half a character, as a text that was cut inside an emoji: {shown(text)}")
    return text


def shown(value: Any) -> str:
    """Return a cell as messages show it: its beginning, if it is long."""
    found = repr(value)
    return found if len(found) <= SHOWN else f"{found[:SHOWN]}..."


def hot_label(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Return the class of a line that has a column for each class, 1 in its own and 0 in the others.

    Raises:
        UserError: it has another content.
    """
    values = {name: str(row.get(name, "")).strip() for name in columns}
    found = [name for name, value in values.items() if value in ("1", "1.0")]
    if len(found) != 1 or not set(values.values()) <= {"0", "0.0", "1", "1.0"}:
        raise UserError(f"its label is {values}, expected 1 for one class and 0 for the others")
    return found[0]


def split_from(value: Any) -> Split | None:
    """Return the split that a cell names, or None for an empty one."""
    return None if value is None or not str(value).strip() else split_of(str(value))


def group_from(value: Any) -> str | None:
    """Return the group that a cell names, or None for an empty one."""
    return None if value is None or not str(value).strip() else composed(str(value).strip())


def _check_meanings(columns: Mapping[str, object], known: Known) -> None:
    for meaning, name in columns.items():
        if meaning not in known:
            raise SettingError("columns", f"{meaning}: {name}", f"columns for {', '.join(known)}")
