"""Class splits: lists of classes that come with metalit, or the user's own."""

import csv
import functools
import gzip
from pathlib import Path

from metalit.data.stream import SPLITS, Split
from metalit.errors import SettingError, UserError


def read_splits(data_set: str, splits: str) -> dict[Split, list[str]]:
    """Return the classes of each split, as ``group/class``, from one text file per split with one class per line.

    A third part of a line, such as the rotation in some lists of Omniglot, is ignored.

    Args:
        data_set: name of the folder beside this file that holds the named splits of a data set.
        splits: one of these names, or the path of a folder with ``train.txt``, ``val.txt`` and ``test.txt``.

    Raises:
        SettingError: a list is missing.
        UserError: a line does not have this form, or two splits share a class.
    """
    here = Path(__file__).parent / data_set
    named = sorted(folder.name for folder in here.iterdir() if folder.is_dir())
    folder = here / splits if splits in named else Path(splits).expanduser()
    classes: dict[Split, list[str]] = {}
    owner: dict[str, Split] = {}
    for split in SPLITS:
        classes[split] = _read_list(folder / f"{split}.txt", splits, named)
        for name in classes[split]:
            # a class in two splits would be trained on and tested on
            if owner.setdefault(name, split) != split:
                both = f"{owner[name]}.txt and {split}.txt of {folder}"
                raise UserError(f"{name} is in both {both}: take it out of one")
    return classes


def _read_list(file: Path, splits: str, named: list[str]) -> list[str]:
    if not file.is_file():
        raise SettingError(
            "splits",
            splits,
            f"one of {', '.join(named)}, or a folder with train.txt, val.txt and test.txt, one group/class per line; "
            f"there is no file {file}",
        )
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if bad := [line for line in lines if line.count("/") not in (1, 2)]:
        raise UserError(f"{file} has the line {bad[0]!r}, expected group/class, as in Greek/character01")
    # a dict drops the duplicates that lines with rotations leave, and keeps the order, which decides the episodes
    return list(dict.fromkeys("/".join(line.split("/")[:2]) for line in lines))


@functools.cache
def published_classes(data_set: str) -> dict[Split, list[str]]:
    """Return the classes of each published split of an image data set, sorted by name.

    Args:
        data_set: name of the folder beside this file, with ``<split>.txt``: one ``class`` or ``super-class/class`` per
            line, or with ``<split>.csv.gz``: ``filename,label``.
    """
    folder = Path(__file__).parent / data_set
    if (folder / "train.csv.gz").exists():
        return {split: sorted(set(published_files(data_set)[split].values())) for split in SPLITS}
    lines = {split: (folder / f"{split}.txt").read_text(encoding="utf-8").split() for split in SPLITS}
    return {split: sorted(line.rpartition("/")[2] for line in lines[split]) for split in SPLITS}


@functools.cache
def published_files(data_set: str) -> dict[Split, dict[str, str]]:
    """Return the class of each file of each published split of an image data set whose split lists files."""
    found: dict[Split, dict[str, str]] = {}
    for split in SPLITS:
        with gzip.open(Path(__file__).parent / data_set / f"{split}.csv.gz", "rt", encoding="utf-8") as file:
            found[split] = {row["filename"]: row["label"] for row in csv.DictReader(file)}
    return found
