"""WebDataset: images in tar shards, indexed once, then read at random."""

import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from metalit.data.cache import Arrays, cached_arrays, fingerprint
from metalit.data.class_splits import split_in_path
from metalit.data.columns import Columns, composed, find_columns, group_from, label_from
from metalit.data.images.finding import BadFile
from metalit.data.images.listing import Entry, Listing, Place, Source, listed
from metalit.data.images.reading import FOREIGN_SUFFIXES, SUFFIXES, reason
from metalit.errors import UserError

VERSION = "index of tar shards, 2"
LABELS = (".cls", ".json", ".txt")  # files that may hold the label of the image with the same key; the first one counts
MOST_LABEL = 1 << 20  # bytes


class Shards(Source):
    """Tar shards with ``key.jpg`` and ``key.cls`` or ``key.json`` side by side; or ``<class>/key.jpg`` alone.

    Shards must not be compressed. Their split is that in their path, such as ``train-000000.tar``, if there is one.

    Args:
        root: the folder that holds all shards.
        shards: the tar files.
        columns: the entries of the JSON files that have unusual names.
        cache: the folder for the index of the shards.
    """

    def __init__(self, root: Path, shards: Sequence[Path], columns: Columns, cache: Path) -> None:
        self.root, self.shards, self.columns, self.cache = root, sorted(shards), columns, cache

    def listing(self) -> Listing:
        """Return all images, from the index of an earlier run if the shards are the same."""
        version = f"{VERSION} {sorted(self.columns.items())}"
        try:
            state = fingerprint(version, self.root, self.shards)
        except OSError as error:
            raise UserError(f"{error.filename}: {os.strerror(error.errno or 0)}") from error
        index = cached_arrays(self.cache / f"shards-{state[:16]}.npz", state, self._index)
        splits = [split_in_path(self._name(shard)) for shard in range(len(self.shards))]
        groups = index["groups"].tolist()
        entries = [
            Entry(label, name, tuple(place), splits[place[0]], group or None)
            for label, name, place, group in zip(
                index["labels"].tolist(), index["names"].tolist(), index["places"].tolist(), groups, strict=True
            )
        ]
        return listed(entries, [BadFile(*pair) for pair in index["bad"].reshape(-1, 2).tolist()], state)

    def fetch(self, place: Place) -> bytes:
        """Return the content of a member, given its shard, offset and length."""
        shard, offset, length = place
        with self.shards[shard].open("rb", buffering=0) as file:
            found = os.pread(file.fileno(), length, offset)
        if len(found) != length:
            raise UserError(f"{self._name(shard)} ends within it")
        return found

    def describe(self) -> str:
        """Return the form in a few words."""
        return f"tar shards ({len(self.shards)})"

    def _name(self, shard: int) -> str:
        return os.path.relpath(self.shards[shard], self.root)

    def _index(self) -> Arrays:
        entries: list[Entry] = []
        bad: list[BadFile] = []
        for number, shard in enumerate(self.shards):
            where = self._name(number)
            try:
                with tarfile.open(shard, "r:") as archive:
                    size = shard.stat().st_size
                    self._add(number, archive, size, entries, bad)
            except (tarfile.TarError, OSError, EOFError, ValueError) as error:
                raise UserError(f"{where}: it is not a whole, uncompressed tar file ({error})") from error
        return {
            "labels": np.array([entry.label for entry in entries], dtype=np.str_),
            "names": np.array([entry.name for entry in entries], dtype=np.str_),
            "places": np.array([entry.place for entry in entries], dtype=np.int64).reshape(-1, 3),
            "groups": np.array([entry.group or "" for entry in entries], dtype=np.str_),
            "bad": np.array([list(each) for each in bad], dtype=np.str_),
        }

    def _add(self, number: int, archive: tarfile.TarFile, size: int, entries: list[Entry], bad: list[BadFile]) -> None:
        where = self._name(number)
        images: dict[str, tarfile.TarInfo] = {}
        labels: dict[str, tuple[str, bytes]] = {}
        for member in archive:
            name = composed(member.name.removeprefix("./"))
            suffix = PurePosixPath(name).suffix.lower()
            if member.isdir() or PurePosixPath(name).name.startswith("."):
                continue
            if why := _refused(member, name, suffix, size):
                bad.append(BadFile(f"{where}/{name}", why))
            elif suffix in SUFFIXES:
                if images.setdefault(_key(name), member) is not member:
                    bad.append(BadFile(f"{where}/{name}", "the shard has a second image with this key"))
            elif suffix in LABELS and member.size <= MOST_LABEL:
                data = archive.extractfile(member)
                assert data is not None
                # a .cls wins in either order: a .txt beside a .cls is a caption
                before = labels.get(_key(name))
                if before is None or LABELS.index(suffix) < LABELS.index(before[0]):
                    labels[_key(name)] = suffix, data.read()
        for key, member in images.items():
            name = composed(member.name.removeprefix("./"))
            try:
                label, group = self._label(key, labels.get(key))
                entries.append(Entry(label, name, (number, member.offset_data, member.size), None, group))
            except UserError as error:
                bad.append(BadFile(f"{where}/{name}", str(error)))

    def _label(self, key: str, found: tuple[str, bytes] | None) -> tuple[str, str | None]:
        if found is None:
            if "/" not in key:
                raise UserError("it has no label: expected a .cls or .json file with its key, or the folder of a class")
            return label_from(key.partition("/")[0]), None
        suffix, data = found
        try:
            if suffix != ".json":
                return label_from(data.decode()), None
            values: Any = json.loads(data)
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise UserError(f"its {suffix} file is damaged: {reason(error)}") from error
        if not isinstance(values, dict):
            return label_from(values), None
        columns = find_columns(values, f"its {suffix} file", self.columns, needed=["label"])
        return label_from(values[columns["label"]]), group_from(values.get(columns.get("group", "")))


def _key(name: str) -> str:
    """Return what the files of one example have in common: the name up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _refused(member: tarfile.TarInfo, name: str, suffix: str, size: int) -> str | None:
    if name.startswith("/") or ".." in name.split("/"):
        return "its path leads out of the shard"
    if suffix in FOREIGN_SUFFIXES:
        return f"{suffix[1:].upper()} photos cannot be read: save it as JPEG or PNG"
    if suffix not in SUFFIXES and suffix not in LABELS:
        return None
    if not member.isreg() or member.issparse():
        return "it is not a regular file"
    return "the shard ends within it" if member.offset_data + member.size > size else None
