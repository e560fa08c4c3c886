"""The random division of tasks into support and query, for tasks of unequal size at once.

Legend: B tasks, R rows of all of them together, one task after another; a row's slot is the number of its task, 0..B-1.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metalit.data.stream import Integers, Words

Flags = npt.NDArray[np.bool_]

GOLDEN, MIX_1, MIX_2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
SLOT_BITS = np.uint64(24)  # of a sort key, the upper ones; the others are random


class Division(NamedTuple):
    """Rows of B tasks in an order that begins with the support, after which the query comes.

    Attributes:
        order: ``[R]`` int64, permutes the rows within their tasks.
        support: ``[B]`` int64, number of support rows, the first of a task.
        query_start: ``[B]`` int64, place of the first query row within its task. Rows between are in neither.
    """

    order: Integers
    support: Integers
    query_start: Integers


def hashed(words: Words, numbers: Integers) -> Words:
    """Return a random word for each number: the outputs of SplitMix64 (Steele et al. 2014) seeded by ``words``.

    Args:
        words: ``[R]`` uint64, the seed for each number.
        numbers: ``[R]`` int64, places in the generator's sequence.
    """
    # a task may have any number of rows: a counter-based generator per row costs as many words as there are rows
    state = words + (numbers.astype(np.uint64) + np.uint64(1)) * GOLDEN
    state = (state ^ (state >> np.uint64(30))) * MIX_1
    state = (state ^ (state >> np.uint64(27))) * MIX_2
    found: Words = state ^ (state >> np.uint64(31))
    return found


def divide(words: Words, sizes: Integers, shots: int) -> Division:
    """Divide tasks by chance: the support has ``shots`` rows, or all but one if the task has fewer.

    Args:
        words: ``[B, 2]`` random words of each task.
        sizes: ``[B]`` number of rows of each task, at least 2.
        shots: rows of a support set.
    """
    slots = np.repeat(np.arange(len(sizes)), sizes)
    keys = hashed(words[slots, 0], places(sizes))
    order = np.argsort((slots.astype(np.uint64) << (np.uint64(64) - SLOT_BITS)) | (keys >> SLOT_BITS))
    support = np.minimum(shots, sizes - 1)
    return Division(order, support, support)


def divide_by_classes(words: Words, sizes: Integers, shots: int, labels: Integers, stratified: bool) -> Division:
    """Divide tasks by chance, with at least one row of each class of a task in its support.

    Args:
        words: ``[B, 2]`` random words of each task.
        sizes: ``[B]`` number of rows of each task, more than it has classes.
        shots: rows of a support set; more if a task has more classes.
        labels: ``[R]`` classes of the rows.
        stratified: give each class its share of the support, rounded as by Webster's method of apportionment; of two
            classes, scikit-learn's ``StratifiedShuffleSplit`` gives the same numbers.
    """
    slots = np.repeat(np.arange(len(sizes)), sizes)
    keys = hashed(words[slots, 0], places(sizes))
    rank, share = ranks(slots, labels, keys)
    if stratified:
        keys = spread(rank, share)
    order = np.lexsort((hashed(words[slots, 1], labels), keys, rank > 0, slots))
    classes = np.bincount(slots, weights=rank == 0, minlength=len(sizes)).astype(np.int64)
    support = np.minimum(np.maximum(shots, classes), sizes - 1)
    return Division(order, support, support)


def divide_by_groups(
    words: Words, sizes: Integers, shots: int, groups: Integers, labels: Integers | None = None
) -> Division:
    """Divide tasks by chance without dividing a group of rows, at least one group on each side.

    The support is filled group by group; what exceeds ``shots`` in its last group is left out. The rows of a task of
    classification begin with one of each class, as far as that leaves a group for the query.

    Args:
        words: ``[B, 2]`` random words of each task.
        sizes: ``[B]`` number of rows of each task, in at least 2 groups.
        shots: rows of a support set.
        groups: ``[R]`` numbers of groups, compared within a task.
        labels: ``[R]`` classes of the rows; None in regression.
    """
    slots = np.repeat(np.arange(len(sizes)), sizes)
    keys, group_keys = hashed(words[slots, 0], places(sizes)), hashed(words[slots, 1], groups)
    late = np.zeros(len(slots), dtype=bool) if labels is None else ranks(slots, labels, keys)[0] > 0
    first, group_late = _whole_groups(slots, groups, late)
    order = np.lexsort((keys, groups, group_keys, group_late, slots))
    starts, ends = np.cumsum(sizes) - sizes, np.cumsum(sizes)
    opens = np.empty(len(order), dtype=bool)  # whether a row is the first of its group, in that order
    opens[0], opens[1:] = True, first[order][1:] != first[order][:-1]
    # the last group is the query's in any case
    last = np.maximum.reduceat(np.where(opens, np.arange(len(order)), 0), starts) - starts
    needed = np.add.reduceat((~group_late[order]).astype(np.int64), starts) if labels is not None else 1
    classes = np.add.reduceat((~late).astype(np.int64), starts) if labels is not None else 1
    support = np.minimum(np.maximum(shots, classes), last)
    reach = np.minimum(np.maximum(support, needed), last)
    # the query starts with the first group after the last one that the support touches
    following = np.where(opens, np.arange(len(order)), len(order))
    following = np.minimum.accumulate(following[::-1])[::-1]
    start = np.minimum(following[np.minimum(starts + reach, ends - 1)], starts + last) - starts
    inside = places(sizes) >= start[slots]
    order = order[np.lexsort((np.arange(len(order)), late[order], inside, slots))]
    return Division(order, support, start)


def places(sizes: Integers) -> Integers:
    """Return the place of each row within its task, ``[R]``."""
    ends = np.cumsum(sizes)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - sizes, sizes)


def ranks(slots: Integers, labels: Integers, keys: Words) -> tuple[Integers, Integers]:
    """Return the random rank of each row among those of its class in its task, from 0, and their number, both [R]."""
    order = np.lexsort((keys, labels, slots))
    new = np.empty(len(order), dtype=bool)
    new[:1] = True
    new[1:] = (slots[order][1:] != slots[order][:-1]) | (labels[order][1:] != labels[order][:-1])
    begin = np.flatnonzero(new)
    lengths = np.diff(np.append(begin, len(order)))
    rank, number = np.empty(len(order), dtype=np.int64), np.empty(len(order), dtype=np.int64)
    rank[order], number[order] = places(lengths), np.repeat(lengths, lengths)
    return rank, number


def spread(rank: Integers, number: Integers) -> Words:
    """Return sort keys by which each beginning of a task has each class in proportion, rounded by Webster's method."""
    return ((rank + 0.5) / number * 2.0**53).astype(np.uint64)


def _whole_groups(slots: Integers, groups: Integers, late: Flags) -> tuple[Integers, Flags]:
    """Return the number of each row's group, distinct over tasks, and whether all rows of the group are late."""
    order = np.lexsort((groups, slots))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (slots[order][1:] != slots[order][:-1]) | (groups[order][1:] != groups[order][:-1])
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    group_late = np.logical_and.reduceat(late[order], np.flatnonzero(new))
    return number, group_late[number]
