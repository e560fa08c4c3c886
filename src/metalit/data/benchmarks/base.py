"""The base classes of the published image data sets: find the form on disk, read it, check it against the split."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from metalit.data.benchmarks.examples import Examples, Wanted, store_of
from metalit.data.images.picture_form import PictureForm
from metalit.data.images.resizing import Fit, Resize
from metalit.data.module import ClassificationDataModule
from metalit.data.splits import published_classes
from metalit.data.store import ClassStore
from metalit.data.stream import Split
from metalit.errors import SettingError, UserError, settings_of

Kind = Literal["memory", "mmap", "encoded"]


@dataclass(frozen=True)
class Storage:
    """How the images of a form become a store.

    Attributes:
        resize: how images of files become squares; those of arrays must have its size.
        kind: where they lie, as ``store`` of the data module says.
        cache: folder for what is decoded.
        owner: name of the data set, for the cache.
    """

    resize: Resize
    kind: Kind
    cache: Path
    owner: str


class Form(ABC):
    """One form in which people have a data set.

    Attributes:
        usual: where its images lie if ``store`` is ``auto``.
    """

    usual: Kind = "memory"

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in results and messages."""

    @abstractmethod
    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the files of a split in a folder; nothing if the form is not there."""

    @abstractmethod
    def store(self, files: list[Path], wanted: Wanted, storage: Storage) -> ClassStore:
        """Return the images of a split, given these files.

        Raises:
            UserError: a file is damaged, has another content than this form, or other classes.
        """


class ArrayForm(Form, ABC):
    """A form that holds the images of a split as one array."""

    @abstractmethod
    def read(self, files: list[Path], wanted: Wanted) -> Examples:
        """Return the images of a split, given these files."""

    def store(self, files: list[Path], wanted: Wanted, storage: Storage) -> ClassStore:
        """Return the images of a split, in memory."""
        if storage.kind != "memory":
            raise SettingError("store", storage.kind, f"memory, for {self.name} hold decoded images in one piece")
        examples, size = self.read(files, wanted), storage.resize.size
        if examples.images.shape[1:3] != (size, size):
            height, width = examples.images.shape[1:3]
            raise UserError(f"images of {height}x{width} pixels, expected {size}x{size}")
        return store_of(examples, wanted)


class ImageBenchmark(ClassificationDataModule, ABC):
    """A published image data set with its published split. A subclass lists the forms in which people have it.

    The files are looked for in ``root`` and in its subfolders of the usual names.

    Args:
        **settings: the settings of ``ClassificationDataModule``.

    Raises:
        SettingError: no known form is in ``root``; the message says what to get and where to put it.
        UserError: files are damaged, or their classes are not those of the published split.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.form: str | None = None

    @property
    @abstractmethod
    def data_set(self) -> str:
        """Name of the folder of its class lists."""

    @property
    @abstractmethod
    def folders(self) -> tuple[str, ...]:
        """Names of subfolders of ``root`` in which people keep it."""

    @abstractmethod
    def forms(self) -> Sequence[Form]:
        """Return the forms, the one to prefer first."""

    @abstractmethod
    def advice(self) -> str:
        """Return what to get, from where, and where to put it."""

    @abstractmethod
    def resize(self) -> Resize:
        """Return how the images of files become squares."""

    def example_form(self) -> PictureForm:
        """Return the form of a picture in this data set, for pictures from elsewhere."""
        return PictureForm(self.resize().size, fit=self.resize().fit)

    def kind(self, form: Form) -> Kind:
        """Return where the images lie that come in a form."""
        return "memory"

    def ranks(self, classes: Sequence[str]) -> list[int]:
        """Return the numbers that classes have where a form only numbers them; none if there is no usual order."""
        return []

    def prepare_data(self) -> None:
        """Download what is missing and can be fetched, in one process per machine, before the others start."""
        self.source("train")

    def source(self, split: Split) -> tuple[Form, list[Path]]:
        """Return the form of a split on disk and its files.

        Raises:
            SettingError: none is there.
        """
        places = [self.root, *(self.root / folder for folder in self.folders)]
        for form in self.forms():
            for place in places:
                if files := form.find(place, split):
                    return form, files
        with settings_of(type(self)):
            return self.fetched(split)

    def fetched(self, split: Split) -> tuple[Form, list[Path]]:
        """Download the data set and return its form and files; refused unless a subclass can."""
        raise SettingError("root", self.root, f"a folder with {type(self).__name__}: {self.advice()}")

    def load(self, split: Split) -> ClassStore:
        """Return the images of a split, ``[examples, 3, height, width]`` uint8."""
        form, files = self.source(split)
        classes = published_classes(self.data_set)[split]
        storage = Storage(self.resize(), self.kind(form), self.root / "metalit-cache", self.data_set)
        try:
            with settings_of(type(self)):
                store = form.store(files, Wanted(split, classes, self.ranks(classes)), storage)
        except SettingError:
            raise
        except UserError as error:
            raise UserError(f"{type(self).__name__} from {files[0]} ({form.name}): {error}") from error
        self.form = form.name
        return store

    def setting(self) -> dict[str, Any]:
        """Return what to state with a test result: form, images per class, and the settings of the base class."""
        sizes = [int(size) for store in self.stores.values() for size in store.class_sizes]
        ends = [str(size) for size in dict.fromkeys((min(sizes), max(sizes)))] if sizes else ["unknown"]
        return {"form": self.form, "images_per_class": " to ".join(ends), **super().setting()}


class SizedBenchmark(ImageBenchmark, ABC):
    """A data set whose original images have many sizes.

    Args:
        image_size: height and width of the images, in pixels; those of arrays must have it already.
        fit: how images of files become squares: ``crop``, ``pad`` or ``squash``.
        store: ``memory``; ``mmap`` leaves the decoded images in a file, of which only those of an episode are read;
            ``encoded`` keeps the files as they are and decodes them for each episode; ``auto`` is ``encoded`` for a
            form that is encoded in one piece, and else ``memory``.
        **settings: the settings of ``ClassificationDataModule``.
    """

    def __init__(
        self,
        image_size: int = 84,
        fit: Fit = "squash",
        store: Literal["auto", "memory", "mmap", "encoded"] = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.image_size, self.fit, self.store = image_size, fit, store
        self._resize = Resize(image_size, fit)

    def resize(self) -> Resize:
        """Return how the images of files become squares."""
        return self._resize

    def kind(self, form: Form) -> Kind:
        """Return where the images lie that come in a form."""
        return form.usual if self.store == "auto" else self.store

    def setting(self) -> dict[str, Any]:
        """Return what to state with a test result: that of the base class, and the resizing."""
        return {"resize": self._resize.describe(), **super().setting()}
