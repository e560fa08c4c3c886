"""Confusion counts of a test over the classes of the data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from torch import Tensor

from metalit.data.module import ClassificationDataModule
from metalit.data.stream import ClassificationStream
from metalit.files import write_csv
from metalit.metrics.confusion import Integers, count_confusions
from metalit.ranks import gather_objects
from metalit.runs.folder import writable_run_folder

CONFUSION_FILE = "confusion.csv"


class ConfusionWriter(L.Callback):
    """Writes ``confusion.csv`` after a ``test`` of classification: one line per pair of true and predicted class.

    Columns: ``true, predicted, queries, taken, rate``. The table is over the classes of the data set, because the
    labels 0..N-1 are assigned to different classes in each episode. A class can be mistaken for another only in
    episodes that contain both: ``queries`` counts the query examples of the true class in such episodes, ``taken``
    those predicted as the other class, and ``rate`` is taken / queries. Correct predictions are included, as pairs of a
    class with itself; pairs with ``taken`` = 0 are left out. The file is written for data modules with a
    ``ClassStore``, but not in a ``fast_dev_run``.
    """

    def __init__(self) -> None:
        self._labels: dict[int, tuple[Tensor, Tensor]] = {}  # by episode index: true and predicted labels

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Discard the labels of an earlier test."""
        self._labels = {}

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the true and predicted labels of a batch: index ``[B]``, predictions ``[B, Q, N]``."""
        if isinstance(outputs, Mapping) and isinstance(_test_stream(trainer), ClassificationStream):
            # in host memory, because they accumulate over the whole test
            predicted = outputs["predictions"].argmax(-1)
            labels = zip(batch.query.y.cpu(), predicted.cpu(), strict=True)
            self._labels |= dict(zip(outputs["index"].tolist(), labels, strict=True))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the table over the episodes of all ranks."""
        labels = {index: pair for part in gather_objects(self._labels) for index, pair in part.items()}
        folder, stream = writable_run_folder(trainer), _test_stream(trainer)
        if folder is None or not labels or not isinstance(stream, ClassificationStream):
            return
        # the classes are recomputed: episode i is a function of (seed, split, i)
        episodes = ((stream.classes(index), *pair) for index, pair in labels.items())
        names = trainer.datamodule.stores["test"].class_names  # type: ignore[attr-defined]
        write_confusion(folder / CONFUSION_FILE, names, *count_confusions(episodes, len(names)))


def _test_stream(trainer: L.Trainer) -> Any:
    datamodule = getattr(trainer, "datamodule", None)  # None if the user passes loaders instead
    return datamodule.streams.get("test") if isinstance(datamodule, ClassificationDataModule) else None


def write_confusion(path: Path, names: Sequence[str], queries: Integers, taken: Integers) -> None:
    """Write the pairs with ``taken`` > 0 as CSV, in the order of the classes."""
    rows = (
        [names[true], names[predicted], queries[true, predicted], taken[true, predicted],
         f"{taken[true, predicted] / queries[true, predicted]:.4f}"]
        for true, predicted in np.argwhere(taken)
    )  # fmt: skip
    write_csv(path, [["true", "predicted", "queries", "taken", "rate"], *rows])
