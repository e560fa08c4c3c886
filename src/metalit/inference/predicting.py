"""From the user's own files, photos or texts, to a table of predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metalit.data.images.loading import OnBadFile
from metalit.data.images.picture_form import PictureForm
from metalit.data.texts import TextForm
from metalit.errors import UserError, check
from metalit.files import keep_old, write_csv
from metalit.inference.examples import Progress
from metalit.inference.given import Given
from metalit.inference.photos import PhotoSource
from metalit.inference.recognised import Recognised
from metalit.inference.recogniser import Recogniser, TrainedModel
from metalit.inference.sources import Source
from metalit.inference.texts import TextFiles

TABLE, SHEET = "predictions.csv", "predictions.png"


def source_of(
    model: TrainedModel,
    on_bad_file: OnBadFile = "error",
    progress: Progress = iter,
    columns: dict[str, str] | None = None,
) -> Source:
    """Return where examples for a model come from, by what it was trained on.

    Args:
        model: the trained model.
        on_bad_file: refuse what cannot be read, or leave it out.
        progress: wraps the loop over files.
        columns: columns with unusual names, in tables of texts.

    Raises:
        SettingError: columns for a model of photos.
        UserError: its data do not say how something of the user's becomes an example.
    """
    if isinstance(model.form, TextForm):
        return TextFiles(model.form, on_bad_file, columns)
    if isinstance(model.form, PictureForm):
        check("columns", columns, columns is None, "none: the model was trained on photos, which lie in folders")
        return PhotoSource(model.form, on_bad_file, progress)
    kind = type(model.data).__name__
    raise UserError(
        f"the model was trained on {kind}, which does not say how a photo or a text becomes one of its examples"
    )


def learn_given(model: TrainedModel, source: Source, path: Path) -> tuple[Recogniser, Given]:
    """Learn the classes of labelled examples; return what was learned, and the examples.

    Raises:
        FileNotFoundError: there is no such file or folder.
        UserError: there is only one class, an example cannot be read, or the method cannot learn that number of
            classes.
    """
    examples = source.labelled(path)
    classes = sorted(set(examples.labels))
    if len(classes) < 2:
        raise UserError(f"{path} has one class, {classes[0]}: give examples of at least two{source.advice}")
    return Recogniser.learn(model, examples.items, examples.labels), examples


def shots_of(labels: Sequence[str]) -> int:
    """Return the examples per class: the median over classes, since classes of one's own are of unequal sizes."""
    _, counts = np.unique(labels, return_counts=True)
    return int(np.median(counts))


def write_recognised(recognised: Recognised, source: Source, folder: Path) -> list[Path]:
    """Write ``predictions.csv`` and, of pictures, ``predictions.png``; older ones are kept under a number.

    Returns:
        The files.
    """
    table, sheet = folder / TABLE, folder / SHEET
    figure = source.sheet(recognised)
    keep_old(table, sheet)
    write_csv(table, recognised.rows(source.column))
    if figure is None:
        return [table]
    figure.savefig(sheet, dpi=150)
    return [table, sheet]
