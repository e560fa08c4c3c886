"""Files of published data sets of texts: where they are, and how they get there."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from metalit.data.download import download
from metalit.data.tables import decoded
from metalit.errors import SettingError, UserError


class Remote(NamedTuple):
    """A file of a public repository at one commit."""

    url: str
    md5: str


def fetched(root: Path, folders: Iterable[str], files: Mapping[str, Remote]) -> Path:
    """Return the folder with the files of a data set: ``root`` or one in it; those that are missing are downloaded.

    Args:
        root: the folder that the user gave.
        folders: names of folders in it in which people keep the data set; downloads go to where some of the files are,
            else to the first of these.
        files: where each file comes from.

    Raises:
        SettingError: a file is missing and cannot be downloaded; the message says where to put it.
    """
    places = [root, *(root / folder for folder in folders)]
    missing = {place: [name for name in files if not (place / name).is_file()] for place in places}
    fullest = min(places, key=lambda place: len(missing[place]))
    found = fullest if len(missing[fullest]) < len(files) else places[1]
    for name in missing[found]:
        download(files[name].url, found / name, files[name].md5, root)
    return found


def existing(root: Path, folders: Iterable[str], names: Iterable[str], advice: str) -> list[Path]:
    """Return those files of a data set that are in ``root`` or in the first of its folders that has any.

    Raises:
        SettingError: there are none.
    """
    if root.is_file():
        return [root]
    names = list(names)
    for place in (root, *(root / folder for folder in folders)):
        if files := [place / name for name in names if (place / name).is_file()]:
            return files
    raise SettingError("root", root, f"a folder with {' or '.join(names)}: {advice}")


def read_text(file: Path, where: str) -> str:
    """Return the text in a file.

    Raises:
        UserError: it cannot be read, or is not in UTF-8.
    """
    try:
        return decoded(file.read_bytes(), where)
    except OSError as error:
        raise UserError(f"{where}: {os.strerror(error.errno or 0)}") from error


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: it cannot be read; the message names the line.
    """
    try:
        return json.loads(read_text(file, file.name))
    except json.JSONDecodeError as error:
        raise UserError(f"{file.name}, line {error.lineno}: it is not JSON ({error.msg})") from error


def of_form(right: bool, where: str, expected: str) -> None:
    """Refuse content that has not the form of its data set."""
    if not right:
        raise UserError(f"{where}: it has not the form of the data set, expected {expected}")
