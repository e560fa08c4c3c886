"""Photos in folders as a source of examples."""

from pathlib import Path
from typing import TYPE_CHECKING

from metalit.data.images import Photos, read_labelled, read_unlabelled
from metalit.data.images.loading import OnBadFile
from metalit.data.images.picture_form import PictureForm
from metalit.figures import photo_sheet
from metalit.inference.examples import Progress
from metalit.inference.given import Given
from metalit.inference.recognised import Recognised
from metalit.inference.sources import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PhotoSource(Source):
    """Folders of photos: ``support/<class>/*``, and ``query/*`` or one photo.

    Args:
        form: the form of the images that the model takes.
        on_bad_file: refuse files that cannot be read, or leave them out.
        progress: wraps the loop over files.
    """

    noun, column, advice = "photos", "file", ", one folder for each"

    def __init__(self, form: PictureForm, on_bad_file: OnBadFile = "error", progress: Progress = iter) -> None:
        self.form, self.on_bad_file, self.progress = form, on_bad_file, progress

    def labelled(self, path: Path) -> Given:
        """Return the photos of ``path/<class>/*``."""
        return self._given(read_labelled(path, self.form.resize, self.on_bad_file, self.progress))

    def unlabelled(self, path: Path) -> Given:
        """Return the photos of a folder, at any depth, or one photo."""
        return self._given(read_unlabelled(path, self.form.resize, self.on_bad_file, self.progress))

    def sheet(self, recognised: Recognised) -> "Figure":
        """Return the photos, each with its most probable class below."""
        assert recognised.given.pictures is not None
        highest = recognised.probabilities.max(axis=1).tolist()
        return photo_sheet(recognised.given.pictures.numpy(), recognised.best, highest, recognised.known)

    def _given(self, photos: Photos) -> Given:
        left_out = [f"{each.name}: {each.reason}" for each in photos.bad]
        return Given(self.form.items(photos.images), photos.names, photos.labels, left_out, pictures=photos.images)
