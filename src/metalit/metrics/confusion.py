"""Confusion counts over the classes of a data set."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from torch import Tensor

Integers = npt.NDArray[np.int64]


def count_confusions(episodes: Iterable[tuple[Integers, Tensor, Tensor]], classes: int) -> tuple[Integers, Integers]:
    """Count over episodes how often each class was predicted as each class, and how often it could have been.

    Args:
        episodes: the class of each label, ``[N]`` in 0..classes-1, and the true and the predicted labels of the
            queries, each ``[Q]`` in 0..N-1.
        classes: number of classes of the data set.

    Returns:
        ``(queries, taken)``, each ``[classes, classes]``, true class first.
    """
    queries, taken = np.zeros((2, classes, classes), dtype=np.int64)
    for class_of_label, true, predicted in episodes:
        true_class = class_of_label[true.numpy()]
        # np.add.at, because += would count a pair that repeats within the episode once
        np.add.at(queries, (true_class[:, None], class_of_label[None, :]), 1)
        np.add.at(taken, (true_class, class_of_label[predicted.numpy()]), 1)
    return queries, taken
