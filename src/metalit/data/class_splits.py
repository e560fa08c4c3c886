"""Classes are divided into training, validation and test: by lists, by the data set itself, or by a seed."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from metalit.data.stream import SPLITS, Integers, Split
from metalit.errors import SettingError, UserError

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
Shares = Sequence[float]
Splits = str | Mapping[str, Sequence[str]]
RULES = ("auto", "given", "seed", "test")
Rows = TypeVar("Rows", list[int], Integers)


class Divided(Protocol):
    """The examples of a data set as columns, as far as the division of its classes goes."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, sorted; each has examples."""

    @property
    def labels(self) -> Integers:
        """``[n]`` int64, the number of each example's class."""

    @property
    def names(self) -> Sequence[str]:
        """What messages call the ``n`` examples."""

    @property
    def splits(self) -> Integers | None:
        """``[n]`` int64, as ``split_numbers`` returns them; or None if the data set has no splits."""

    @property
    def groups(self) -> Sequence[str | None]:
        """What belongs together, such as a super-category, None for an example without; or nothing."""


class ClassSplits(dict[Split, list[str]]):
    """The classes of each split, sorted by name, and the rule that divided them, in words (``rule``)."""

    rule: str


def split_classes(listing: Divided, splits: Splits, shares: Shares, seed: int, by_group: bool) -> ClassSplits:
    """Divide the classes of a data set; no class is in two splits.

    Args:
        listing: all examples.
        splits: ``given``: as the data set says; ``seed``: at random; ``auto``: given if it says so, else at random;
            ``test``: all classes are test classes. Or the lists: by split, or a folder with ``train.txt``, ``val.txt``
            and ``test.txt``, one class per line, where classes on no list are left out.
        shares: shares of training, validation and test classes (of groups, if these stay together), for ``seed``.
        seed: the seed of ``seed``.
        by_group: for ``seed``: the classes of one group, such as a super-category, stay together.

    Raises:
        SettingError: ``splits`` is none of these, or the data set does not say it.
        UserError: a class is in two splits or a list has a class that does not exist.
    """
    names = listing.classes
    given = listing.splits is not None and bool((listing.splits >= 0).any())
    if splits == "auto":
        splits = "given" if given else "seed"
    found: Mapping[Split, Iterable[str]]
    if splits == "given":
        found, rule = _given(listing, given), "as given by the data set"
    elif splits == "seed":
        groups = _groups(listing) if by_group else {name: name for name in names}
        found, rule = (
            drawn(groups, shares, seed),
            f"by seed {seed}, shares {' / '.join(f'{share:.3g}' for share in shares)}",
        )
        rule += ", groups stay together" if by_group else ""
    elif splits == "test":
        found, rule = {"test": names}, "all classes are test classes"
    else:
        found, rule = _by_lists(read_lists(splits), set(names)), "by lists"
    divided = ClassSplits({split: sorted(found.get(split, [])) for split in SPLITS})
    divided.rule = rule
    return divided


def check_shares(shares: Shares) -> None:
    """Refuse shares that are not three numbers with the sum 1."""
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise SettingError("shares", list(shares), "three shares, of training, validation and test, with the sum 1")


def check_splits(splits: Splits) -> None:
    """Read the lists of classes, if ``splits`` gives some, so that a mistake in them is found before any decoding."""
    if not (isinstance(splits, str) and splits in RULES):
        read_lists(splits)


def large_enough(
    rows: Mapping[str, Rows], needed: int, split: Split, skip: bool, what: str
) -> tuple[dict[str, Rows], list[str]]:
    """Return the classes of a split that suffice for an episode, and the names of the others.

    Only now, and not before the classes are divided: other shots would else divide them in another way, and a training
    class of one experiment would be a test class of the next.

    Args:
        rows: the examples of each class.
        needed: how many an episode needs.
        split: the split.
        skip: leave classes with fewer out and say so.
        what: what the examples are, such as ``images``.

    Raises:
        UserError: there are classes with fewer, and ``skip`` is false.
    """
    small = [name for name, of in rows.items() if len(of) < needed]
    if small and not skip:
        shown = ", ".join(f"{name} ({len(rows[name])})" for name in small[:10])
        raise UserError(
            f"{len(small)} classes of the {split} split have fewer {what} than the {needed} of an episode (shots + "
            f"queries): {shown}{', ...' if len(small) > 10 else ''}; lower data.shots or data.queries, add {what}, "
            "or set data.small_classes to skip"
        )
    if small:
        rank_zero_info(
            f"{what.capitalize()}: {len(small)} classes of the {split} split are left out, with fewer than {needed} "
            f"{what}"
        )
    return {name: of for name, of in rows.items() if len(of) >= needed}, small


def _given(listing: Divided, given: bool) -> dict[Split, list[str]]:
    splits, labels = listing.splits, listing.labels
    if splits is None or not given:
        raise SettingError("splits", "given", "auto, seed, test or lists of classes: the data set has no splits")
    firsts = np.unique(labels, return_index=True)[1]
    of_class = splits[firsts]
    if len(wrong := np.flatnonzero((splits < 0) | (splits != of_class[labels]))):
        row = int(wrong[0])
        _refuse_split(listing, splits, int(firsts[labels[row]]), row)
    found: dict[Split, list[str]] = {}
    for name, number in zip(listing.classes, of_class.tolist(), strict=True):
        found.setdefault(SPLITS[number], []).append(name)
    return found


def _refuse_split(listing: Divided, splits: Integers, first: int, row: int) -> NoReturn:
    names = listing.names
    if splits[row] < 0:
        raise UserError(f"{names[row]}: it has no split, and others have: add it, or set data.splits to seed")
    one, other = (SPLITS[splits[each]] for each in (first, row))
    raise UserError(
        f"{names[row]}: its class {listing.classes[listing.labels[row]]} is in two splits, {one} ({names[first]}) and "
        f"{other}; few-shot learning is tested on classes that were not trained on: move it, or set data.splits to seed"
    )


def _groups(listing: Divided) -> dict[str, str]:
    labels, classes, names = listing.labels.tolist(), listing.classes, listing.names
    groups: dict[str, str] = {}
    for row, (number, group) in enumerate(zip(labels, listing.groups or [None] * len(labels), strict=True)):
        if group is None:
            raise UserError(f"{names[row]}: it has no group, which data.split_by=group needs")
        label = classes[number]
        if groups.setdefault(label, group) != group:
            raise UserError(
                f"{names[row]}: its class {label} is in two groups, {groups[label]} and {group}: "
                "set data.split_by to class"
            )
    return groups


def drawn(groups: Mapping[str, str], shares: Shares, seed: int) -> dict[Split, list[str]]:
    """Return the names of each split, drawn by a seed; the names of one group stay together.

    Args:
        groups: the group of each name.
        shares: shares of training, validation and test groups.
        seed: the seed.
    """

    def order(group: str) -> str:
        # a hash and not a shuffle: a class keeps its place when others are added, and no library decides it
        return hashlib.sha256(f"{seed}/{group}".encode()).hexdigest()

    members: dict[str, list[str]] = {}
    for name, group in groups.items():
        members.setdefault(group, []).append(name)
    ordered = sorted(members, key=order)
    tested, validated = (round(share * len(ordered)) for share in (shares[2], shares[1]))
    names: dict[Split, list[str]] = {
        "test": ordered[:tested],
        "val": ordered[tested : tested + validated],
        "train": ordered[tested + validated :],
    }
    return {split: [name for group in some for name in members[group]] for split, some in names.items()}


def read_lists(splits: Splits) -> dict[Split, list[str]]:
    """Return the names of each split by lists, or by the folder that holds them.

    Raises:
        SettingError: there are no such lists.
        UserError: a name is in two of them.
    """
    lists = _lists_of_folder(splits) if isinstance(splits, str) else splits
    found: dict[Split, list[str]] = {}
    owner: dict[str, str] = {}
    for name, classes in lists.items():
        if name not in SPLIT_NAMES:
            raise SettingError("splits", f"{name}: ...", f"lists of {', '.join(SPLITS)}")
        for each in map(str, classes):
            if owner.setdefault(each, name) != name:
                raise UserError(f"data.splits: {each} is in two splits, {owner[each]} and {name}")
            found.setdefault(SPLIT_NAMES[name], []).append(each)
    return found


def _lists_of_folder(splits: str) -> dict[str, list[str]]:
    files = [Path(splits).expanduser() / f"{split}.txt" for split in SPLITS]
    if not any(file.is_file() for file in files):
        expected = f"one of {', '.join(RULES)}, lists by split, or a folder with train.txt, val.txt and test.txt"
        raise SettingError("splits", splits, expected)
    texts = {file.stem: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    return {split: [line.strip() for line in text.splitlines() if line.strip()] for split, text in texts.items()}


def _by_lists(lists: dict[Split, list[str]], names: set[str]) -> dict[Split, list[str]]:
    unknown = [name for classes in lists.values() for name in classes if name not in names]
    if unknown:
        shown = ", ".join(sorted(names)[:5])
        raise UserError(f"data.splits: there is no class {unknown[0]} among the {len(names)} classes ({shown}, ...)")
    return {split: list(dict.fromkeys(classes)) for split, classes in lists.items()}


def split_numbers(splits: Iterable[Split | None]) -> Integers:
    """Return the number in ``SPLITS`` of each split, ``[n]`` int64, -1 for none."""
    return np.array([-1 if split is None else SPLITS.index(split) for split in splits], dtype=np.int64)


def split_of(name: str) -> Split:
    """Return the split that a word means, such as ``validation``.

    Raises:
        UserError: it means none.
    """
    split = SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise UserError(f"{name!r} is no split: expected one of {', '.join(SPLIT_NAMES)}")
    return split


def split_in_path(name: str) -> Split | None:
    """Return the split that a path names: ``train-00000-of-00001.parquet``, ``data/val/000.tar``; or None."""
    words = re.split(r"[/._\-]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
