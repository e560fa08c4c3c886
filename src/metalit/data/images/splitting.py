"""Classes are divided into training, validation and test: by lists, by the data set itself, or by a seed."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from metalit.data.images.listing import SPLIT_NAMES, Listing
from metalit.data.stream import SPLITS, Split
from metalit.errors import SettingError, UserError

Shares = Sequence[float]
Splits = str | Mapping[str, Sequence[str]]
RULES = ("auto", "given", "seed", "test")


class ClassSplits(dict[Split, list[str]]):
    """The classes of each split, sorted by name, and the rule that divided them, in words (``rule``)."""

    rule: str


def split_classes(listing: Listing, splits: Splits, shares: Shares, seed: int, by_group: bool) -> ClassSplits:
    """Divide the classes of a data set; no class is in two splits.

    Args:
        listing: all images.
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
        found, rule = _drawn(groups, shares, seed), f"by seed {seed}, shares {' / '.join(map(str, shares))}"
        rule += ", groups stay together" if by_group else ""
    elif splits == "test":
        found, rule = {"test": names}, "all classes are test classes"
    else:
        found, rule = _by_lists(_read_lists(splits), set(names)), "by lists"
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
        _read_lists(splits)


def _given(listing: Listing, given: bool) -> dict[Split, list[str]]:
    if not given:
        raise SettingError("splits", "given", "auto, seed, test or lists of classes: the data set has no splits")
    assert listing.splits is not None
    found: dict[Split, list[str]] = {}
    for number, name in enumerate(listing.classes):
        rows = listing.rows(number)
        of_class = listing.splits[rows.start : rows.stop]
        if len(wrong := np.flatnonzero((of_class != of_class[0]) | (of_class < 0))):
            _refuse_split(listing, rows.start, rows.start + int(wrong[0]))
        found.setdefault(SPLITS[of_class[0]], []).append(name)
    return found


def _refuse_split(listing: Listing, first: int, row: int) -> None:
    assert listing.splits is not None
    if listing.splits[row] < 0:
        raise UserError(f"{listing.names[row]}: it has no split, and others have: add it, or set data.splits to seed")
    one, other = (SPLITS[listing.splits[each]] for each in (first, row))
    raise UserError(
        f"{listing.names[row]}: its class {listing.label(row)} is in two splits, {one} ({listing.names[first]}) and "
        f"{other}; few-shot learning is tested on classes that were not trained on: move it, or set data.splits to seed"
    )


def _groups(listing: Listing) -> dict[str, str]:
    groups: dict[str, str] = {}
    for row, (number, group) in enumerate(
        zip(listing.labels.tolist(), listing.groups or [None] * len(listing), strict=True)
    ):
        if group is None:
            raise UserError(f"{listing.names[row]}: it has no group, which data.split_by=group needs")
        label = listing.classes[number]
        if groups.setdefault(label, group) != group:
            raise UserError(
                f"{listing.names[row]}: its class {label} is in two groups, {groups[label]} and {group}: "
                "set data.split_by to class"
            )
    return groups


def _drawn(groups: Mapping[str, str], shares: Shares, seed: int) -> dict[Split, list[str]]:
    def order(group: str) -> str:
        # a hash and not a shuffle: a class keeps its place when others are added, and no library decides it
        return hashlib.sha256(f"{seed}/{group}".encode()).hexdigest()

    members: dict[str, list[str]] = {}
    for name, group in groups.items():
        members.setdefault(group, []).append(name)
    ordered = sorted(members, key=order)
    tested, validated = (round(share * len(ordered)) for share in (shares[2], shares[1]))
    drawn: dict[Split, list[str]] = {
        "test": ordered[:tested],
        "val": ordered[tested : tested + validated],
        "train": ordered[tested + validated :],
    }
    return {split: [name for group in some for name in members[group]] for split, some in drawn.items()}


def _read_lists(splits: Splits) -> dict[Split, list[str]]:
    lists = _lists_of_folder(splits) if isinstance(splits, str) else splits
    found: dict[Split, list[str]] = {}
    owner: dict[str, str] = {}
    for name, classes in lists.items():
        if name not in SPLIT_NAMES:
            raise SettingError("splits", f"{name}: ...", f"lists of {', '.join(SPLITS)}")
        for each in map(str, classes):
            if owner.setdefault(each, name) != name:
                raise UserError(f"data.splits: the class {each} is in two splits, {owner[each]} and {name}")
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
