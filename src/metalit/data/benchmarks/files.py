"""Forms that hold encoded images: folders of classes, lists of files, and pickles of files."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from metalit.data.benchmarks.arrays import LABELS, entry, first_of, named
from metalit.data.benchmarks.base import Form, Storage
from metalit.data.benchmarks.examples import Wanted, check_classes, class_names
from metalit.data.benchmarks.safe_pickle import read_pickle
from metalit.data.images.building import usable_cores
from metalit.data.images.caching import ImageCache
from metalit.data.images.finding import BadFile, find_images, refuse
from metalit.data.images.listing import Listing, Place, Source, digest
from metalit.data.images.names import Names
from metalit.data.images.reading import content
from metalit.data.splits import published_classes, published_files
from metalit.data.store import ClassStore
from metalit.data.stream import Split
from metalit.errors import UserError

WORDS = ("train", "val", "test", "validation")
# below a place: nothing, people's own splits, both parts of CIFAR-100, and learn2learn's and mmfewshot's folders
ABOVE_CLASSES = ("", "images", "data", *(f"{above}{split}" for above in ("", "processed/") for split in WORDS))
IMAGES_OF_LISTS = ("", "images", "CUB_200_2011/images", "..", "../images")  # beside a list


class Picture(NamedTuple):
    """One image: its class, its name within the class, and where it is."""

    label: str
    name: str
    place: Place


class Pictures(Source):
    """The images of a split in the order of the store; all in one class for the cache, which else would compare them.

    Published sets have the same picture in two classes here and there.
    """

    def __init__(self, pictures: Sequence[Picture], state: str) -> None:
        self.pictures, self.state = pictures, state

    def listing(self) -> Listing:
        """Return all images."""
        names = Names(f"{each.label}/{each.name}" for each in self.pictures)
        places = [each.place for each in self.pictures]
        return Listing([""], np.zeros(len(places), dtype=np.int64), names, places, [], self.state)

    def fetch(self, place: Place) -> bytes:
        """Return the content of a file."""
        return content(Path(place))


class FilesForm(Form, ABC):
    """A form that holds each image in a file of its own."""

    @abstractmethod
    def pictures(self, files: list[Path], wanted: Wanted) -> list[Picture]:
        """Return the images of the split's classes, given what ``find`` has found."""

    def store(self, files: list[Path], wanted: Wanted, storage: Storage) -> ClassStore:
        """Return the images of a split, decoded once into a cache."""
        pictures = sorted(self.pictures(files, wanted))
        check_classes((each.label for each in pictures), wanted)
        status = [Path(each.place).stat() for each in pictures]
        state = digest(f"{each.name} {s.st_size} {s.st_mtime_ns}" for each, s in zip(pictures, status, strict=True))
        return cached(Pictures(pictures, state), wanted, storage, usable_cores())


def cached(source: Pictures, wanted: Wanted, storage: Storage, processes: int) -> ClassStore:
    """Return the store of sorted pictures, decoded now or by an earlier run.

    Raises:
        UserError: images cannot be decoded; the message names them with the reason.
    """
    listing, owner = source.listing(), f"{storage.owner} {wanted.split}"
    cache = ImageCache(storage.cache, owner, source, listing, storage.resize, storage.kind == "encoded")
    built = cache.read()
    if built is None:
        built = cache.build(processes, keep_if_bad=False)
    else:
        rank_zero_info(f"Images: {len(listing)} from the cache {cache.path}")
    refuse([BadFile(listing.names[row], reason) for row, reason in sorted(built.bad.items())], "replace them")
    labels, sizes = np.unique([each.label for each in source.pictures], return_counts=True)
    items = cache.examples(np.arange(len(source.pictures)), storage.kind == "memory")
    return ClassStore(items, sizes.astype(np.int64), labels.tolist(), [each.name for each in source.pictures])


class ClassFolders(FilesForm):
    """A folder per class, named as in the published lists, below one of ``ABOVE_CLASSES``.

    Args:
        data_set: name of the data set's class lists.
    """

    name = "a folder per class"

    def __init__(self, data_set: str) -> None:
        self.data_set = data_set

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the folders of the split's classes, of which some may be missing."""
        parents = [place / above for above in ABOVE_CLASSES if (place / above).is_dir()]
        classes = published_classes(self.data_set)[split]
        return [parent / name for parent in parents for name in classes if _holds_files(parent / name)]

    def pictures(self, files: list[Path], wanted: Wanted) -> list[Picture]:
        """Return the images in these folders."""
        return [
            Picture(folder.name, Path(image.name).name, image.path)
            for folder in files
            for image in find_images(folder).images
            if "/" not in image.name
        ]


def _holds_files(folder: Path) -> bool:
    # "train" is a class of CIFAR-100, and the folder of a split with classes in it
    return folder.is_dir() and any(each.is_file() for each in folder.iterdir())


class ListedFiles(FilesForm):
    """All images in one folder, with the names of the published lists, as in Ravi's csv files.

    Args:
        data_set: name of the data set's lists.
    """

    name = "listed files in one folder"

    def __init__(self, data_set: str) -> None:
        self.data_set = data_set

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the listed files of the split that are there."""
        listed = published_files(self.data_set)[split]
        for folder in (place, place / "images"):
            there = {each.name for each in folder.iterdir()} if folder.is_dir() else set()
            if found := [folder / name for name in listed if name in there]:
                return found
        return []

    def pictures(self, files: list[Path], wanted: Wanted) -> list[Picture]:
        """Return the images; a class without any is missing, a single missing file is not noticed."""
        listed = published_files(self.data_set)[wanted.split]
        return [Picture(listed[file.name], file.name, str(file)) for file in files]


class EncodedPickles(Form):
    """Tiered's ``<split>_images_png.pkl``, a list of encoded images, with ``<split>_labels.pkl``.

    The images stay encoded: decoded, those of tieredImageNet take 16 GB.
    """

    name = "pickles of encoded images"
    usual = "encoded"

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the two files of the split."""
        files = [place / f"{split}_images_png.pkl", place / f"{split}_labels.pkl"]
        return files if all(file.is_file() for file in files) else []

    def store(self, files: list[Path], wanted: Wanted, storage: Storage) -> ClassStore:
        """Return the images of a split, each checked once by decoding it."""
        content = read_pickle(files[1])
        labels = class_names(named(content, entry(content, *LABELS), wanted.classes), wanted)
        pictures = sorted(Picture(str(label), f"{row:07}", row) for row, label in enumerate(labels))
        status = [file.stat() for file in files]
        state = digest(f"{file.name} {s.st_size} {s.st_mtime_ns}" for file, s in zip(files, status, strict=True))
        # one process: the list of images is too large to be sent to others
        return cached(PickledPictures(pictures, state, files[0]), wanted, storage, processes=1)


class PickledPictures(Pictures):
    """Encoded images in a pickle, which is read only if one is fetched."""

    def __init__(self, pictures: Sequence[Picture], state: str, file: Path) -> None:
        super().__init__(pictures, state)
        self.file = file

    @cached_property
    def images(self) -> Any:
        """The list of encoded images."""
        found = read_pickle(self.file)
        if not isinstance(found, list | np.ndarray) or len(found) != len(self.pictures):
            raise UserError(f"{self.file} holds no list of {len(self.pictures)} encoded images, one for each label")
        return found

    def fetch(self, place: Place) -> bytes:
        """Return the encoded image with this number."""
        image = self.images[place]
        return image if isinstance(image, bytes) else np.asarray(image, dtype=np.uint8).tobytes()


class FileLists(FilesForm):
    """A json per split with ``label_names``, ``image_names`` and ``image_labels``, as that of CloserLookFewShot.

    The paths in it are absolute, on the machine of the list's author; only ``<class>/<file>`` counts, which is
    looked for beside the list.
    """

    name = "json lists of files"
    names: ClassVar = {"train": ("base.json", "train.json"), "val": ("val.json",), "test": ("novel.json", "test.json")}

    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the list of the split, if the images are there too."""
        return first_of(place, self.names[split])

    def pictures(self, files: list[Path], wanted: Wanted) -> list[Picture]:
        """Return the images of the list.

        Raises:
            UserError: it is no such list, or an image is not there.
        """
        try:
            content = json.loads(files[0].read_text(encoding="utf-8"))
            names = [PurePosixPath(str(name).replace("\\", "/")) for name in entry(content, "image_names")]
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"no sound json ({error}): get it again") from error
        return [self._found(files[0].parent, name) for name in names]

    def _found(self, folder: Path, name: PurePosixPath) -> Picture:
        # only the two last parts, none of which may lead out of the folder
        label, file = name.parent.name, name.name
        for above in IMAGES_OF_LISTS:
            if label not in ("", "..") and (path := folder / above / label / file).is_file():
                return Picture(label, file, str(path))
        raise UserError(
            f"{label}/{file} of the list is in none of {', '.join(f'{folder / a}' for a in IMAGES_OF_LISTS)}"
        )
