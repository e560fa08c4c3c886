"""Photos recognised: a table and a sheet of pictures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from metalit.data.images import BadFile, Photos, read_labelled
from metalit.data.images.loading import OnBadFile
from metalit.data.images.picture_form import PictureForm
from metalit.errors import UserError
from metalit.figures import photo_sheet
from metalit.files import keep_old, write_csv
from metalit.inference.examples import Progress
from metalit.inference.recogniser import Probabilities, Recogniser, TrainedModel

NONE = "none of these"
TABLE, SHEET = "predictions.csv", "predictions.png"


class Recognised(NamedTuple):
    """Photos and what was recognised in them.

    Attributes:
        photos: the photos.
        logits: ``[n, N]``.
        recogniser: what recognised them.
    """

    photos: Photos
    logits: Tensor
    recogniser: Recogniser

    @property
    def probabilities(self) -> Probabilities:
        """The probability of each class, ``[n, N]``."""
        return self.recogniser.probabilities_of(self.logits)

    @property
    def confidence(self) -> list[float]:
        """What the threshold is compared with."""
        confidence: list[float] = self.recogniser.decision.confidence(self.logits).tolist()
        return confidence

    @property
    def best(self) -> list[str]:
        """The most probable class of each photo."""
        return [str(self.recogniser.names[number]) for number in self.probabilities.argmax(axis=1)]

    @property
    def known(self) -> list[bool]:
        """Whether each photo is taken for one of the classes."""
        return [confidence >= self.recogniser.decision.value for confidence in self.confidence]

    def rows(self) -> Iterable[Sequence[Any]]:
        """Yield the header and one row per photo, with the probability of each class."""
        yield [
            "file",
            "prediction",
            "known",
            "confidence",
            "most_likely",
            *(f"P({name})" for name in self.recogniser.names),
        ]
        columns = self.photos.names, self.best, self.known, self.confidence, self.probabilities
        for file, best, known, confidence, row in zip(*columns, strict=True):
            prediction, whether = (best, "yes") if known else (NONE, "no")
            yield [file, prediction, whether, f"{confidence:.6g}", best, *(f"{each:.6f}" for each in row)]


def learn_folder(
    model: TrainedModel, folder: Path, on_bad_file: OnBadFile = "error", progress: Progress = iter
) -> tuple[Recogniser, Photos]:
    """Learn the classes of ``folder/<class>/*``; return what was learned, and the examples.

    Raises:
        FileNotFoundError: there is no such folder.
        UserError: the model takes no images; there are no classes, or only one; a file cannot be read; or the method
            cannot learn that number of classes.
    """
    form = image_form(model)
    examples = read_labelled(folder, form.resize, on_bad_file, progress)
    classes = sorted(set(examples.labels))
    if len(classes) < 2:
        raise UserError(f"{folder} has one class, {classes[0]}: give examples of at least two, one folder for each")
    return Recogniser.learn(model, form.items(examples.images), examples.labels), examples


def shots_of(labels: Sequence[str]) -> int:
    """Return the examples per class: the median over classes, since classes of one's own are of unequal sizes."""
    _, counts = np.unique(labels, return_counts=True)
    return int(np.median(counts))


def write_recognised(recognised: Recognised, folder: Path) -> tuple[Path, Path]:
    """Write ``predictions.csv`` and ``predictions.png`` into a folder; older ones are kept under a number."""
    table, sheet = folder / TABLE, folder / SHEET
    keep_old(table, sheet)
    write_csv(table, recognised.rows())
    highest = recognised.probabilities.max(axis=1).tolist()
    figure = photo_sheet(recognised.photos.images.numpy(), recognised.best, highest, recognised.known)
    figure.savefig(sheet, dpi=150)
    return table, sheet


def image_form(model: TrainedModel) -> PictureForm:
    """Return the form of the model's images.

    Raises:
        UserError: it takes no images.
    """
    if model.form is None:
        kind = type(model.data).__name__
        raise UserError(f"the model was trained on {kind}, which does not say how a photo becomes one of its examples")
    return model.form


def described_bad(bad: Sequence[BadFile]) -> list[str]:
    """Return one line for each file that was left out."""
    return [f"Left out {each.name}: {each.reason}" for each in bad]
