"""Confusion counts over the classes of a data set."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from metalit.data.stream import ClassificationStream, Integers


def count_confusions(
    stream: ClassificationStream, labels: Mapping[int, tuple[Tensor, Tensor]]
) -> tuple[Integers, Integers]:
    """Count over episodes how often each class was predicted as each class, and how often it could have been.

    Args:
        stream: the stream of the episodes, which knows their classes.
        labels: by episode index, the true and the predicted labels of its queries, each ``[Q]`` in 0..N-1.

    Returns:
        ``(queries, taken)``, each ``[classes, classes]``, true class first.
    """
    classes = len(stream.class_sizes)
    queries, taken = np.zeros((2, classes, classes), dtype=np.int64)
    for index, (true, predicted) in labels.items():
        class_of_label = stream.classes(index)  # recomputed: episode i is a function of (seed, split, i)
        true_class = class_of_label[true.numpy()]
        # np.add.at, because += would count a pair that repeats within the episode once
        np.add.at(queries, (true_class[:, None], class_of_label[None, :]), 1)
        np.add.at(taken, (true_class, class_of_label[predicted.numpy()]), 1)
    return queries, taken
