"""The images of a folder in memory at once: a user's labelled examples, or photos to be recognised."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from metalit.data.columns import composed
from metalit.data.images.finding import BadFile, Found, ImageFile, find_images, refuse
from metalit.data.images.reading import read_image
from metalit.data.images.resizing import Pixels, Resize
from metalit.errors import UserError

OnBadFile = Literal["error", "skip"]
Progress = Callable[[Sequence[ImageFile]], Iterable[ImageFile]]  # a progress bar around a loop
REMEDY = "replace or remove them, or skip bad files"


@dataclass(frozen=True)
class Photos:
    """Images of one size.

    Attributes:
        images: ``[n, 3, size, size]`` uint8.
        names: ``n`` file names, relative to the folder that was read.
        labels: ``n`` class names, or none if the images have no label.
        bad: files that were left out, with the reason.
    """

    images: Tensor
    names: Sequence[str]
    labels: Sequence[str] = ()
    bad: Sequence[BadFile] = ()


def read_labelled(folder: Path, resize: Resize, on_bad_file: OnBadFile = "error", progress: Progress = iter) -> Photos:
    """Read ``folder/<class>/*``, at any depth below the class; sorted by class, then by name.

    Args:
        folder: a folder with one folder per class.
        resize: how the images become squares.
        on_bad_file: refuse files that cannot be read, or leave them out.
        progress: wraps the loop over files.

    Raises:
        FileNotFoundError: there is no such folder.
        UserError: there are no images in folders of classes, or some cannot be read.
    """
    found = find_images(folder)
    stray = [BadFile(image.name, "it lies in no folder of a class") for image in found.images if "/" not in image.name]
    inside = [image for image in found.images if "/" in image.name]
    photos = _read(Found(inside, found.bad + stray), resize, on_bad_file, progress)
    if not photos.names:
        raise UserError(f"there are no images in {folder}: put them into {folder}/<class>/*.jpg, one folder per class")
    labels = [name.partition("/")[0] for name in photos.names]
    # by label first, as ClassStore has it: "a b/1.jpg" comes before "a/1.jpg", but class "a" before "a b"
    order = sorted(range(len(labels)), key=lambda at: (labels[at], photos.names[at]))
    names, labels = ([values[at] for at in order] for values in (photos.names, labels))
    return Photos(photos.images[order], names, labels, photos.bad)


def read_unlabelled(
    paths: Path | Sequence[Path], resize: Resize, on_bad_file: OnBadFile = "error", progress: Progress = iter
) -> Photos:
    """Read the images of a folder, at any depth, sorted by name; or the files of a list, in its order.

    Args:
        paths: a folder, an image file, or image files.
        resize: how the images become squares.
        on_bad_file: refuse files that cannot be read, or leave them out.
        progress: wraps the loop over files.

    Raises:
        FileNotFoundError: there is no such file or folder.
        UserError: there are no images, or some cannot be read.
    """
    if isinstance(paths, Path) and paths.is_dir():
        found, where = find_images(paths), str(paths)
    else:
        files = [paths] if isinstance(paths, Path) else list(paths)
        if missing := [file for file in files if not file.exists()]:
            raise FileNotFoundError(f"there is no file {missing[0]}")
        # not by suffix: who names a file means it
        found, where = Found([_named(file) for file in files]), "the list of files"
    photos = _read(found, resize, on_bad_file, progress)
    if not photos.names:
        raise UserError(f"there are no images in {where}")
    return photos


def read_pixels(path: Path, name: str, resize: Resize) -> Pixels:
    """Return one image file as ``[3, size, size]`` uint8.

    Raises:
        UserError: the file cannot be read; the message is ``name: reason``.
    """
    return resize(read_image(path, name, resize.decoded))


def _named(file: Path) -> ImageFile:
    return ImageFile(composed(str(file)), str(file), (0, 0, 0))


def _read(found: Found, resize: Resize, on_bad_file: OnBadFile, progress: Progress) -> Photos:
    pixels, names, bad = [], [], list(found.bad)
    for image in progress(found.images):
        try:
            pixels.append(read_pixels(Path(image.path), image.name, resize))
            names.append(image.name)
        except UserError as error:
            bad.append(BadFile(image.name, str(error).removeprefix(f"{image.name}: ")))
    if on_bad_file == "error":
        refuse(sorted(bad), REMEDY)
    shape = (len(pixels), 3, resize.size, resize.size)
    return Photos(torch.from_numpy(np.array(pixels, dtype=np.uint8).reshape(shape)), names, (), sorted(bad))
