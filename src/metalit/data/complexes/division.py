"""Which clusters are for training, validation and test: MetaScore's rule."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from metalit.data.stream import Split, uniform

Group = Literal["train", "val", "adapted", "zero_shot"]
TestClusters = Literal["adapted", "zero_shot"]


def groups_of_clusters(
    sizes: Mapping[str, int], train_size: int, val_size: int, test_share: float, seed: int
) -> dict[Group, list[str]]:
    """Divide clusters by their numbers of complexes.

    Args:
        sizes: number of complexes of each cluster.
        train_size: clusters of at least so many complexes are for training.
        val_size: those of at least so many, but fewer than ``train_size``, are for validation and the adapted test;
            smaller ones are the zero-shot group.
        test_share: share of the middle clusters, chosen by ``seed``, that are for the test.
        seed: which are chosen.

    Returns:
        The names of each group, in the order of ``sizes``.
    """
    middle = [name for name, size in sizes.items() if val_size <= size < train_size]
    chosen = _chosen(middle, round(test_share * len(middle)), seed)
    return {
        "train": [name for name, size in sizes.items() if size >= train_size],
        "val": [name for name in middle if name not in chosen],
        "adapted": [name for name in middle if name in chosen],
        "zero_shot": [name for name, size in sizes.items() if size < val_size],
    }


def group_of_split(split: Split, test_clusters: TestClusters) -> Group:
    """Return the group of clusters that a split has."""
    return test_clusters if split == "test" else split


def _chosen(names: Sequence[str], count: int, seed: int) -> set[str]:
    words = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)).random_raw(max(len(names), 1))
    order = np.argsort(uniform(words[: len(names)]), kind="stable")
    return {names[place] for place in order[:count].tolist()}
