"""The base class of the published image data sets: finds the form on disk, reads it, checks it against the split."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metalit.data.benchmarks.examples import Examples, store_of
from metalit.data.module import ClassificationDataModule
from metalit.data.splits import published_classes
from metalit.data.store import ClassStore
from metalit.data.stream import Split
from metalit.errors import SettingError, UserError, settings_of


class Form(ABC):
    """One form in which people have a data set."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in results and messages."""

    @abstractmethod
    def find(self, place: Path, split: Split) -> list[Path]:
        """Return the files of a split in a folder; nothing if the form is not there."""

    @abstractmethod
    def read(self, files: list[Path], split: Split, classes: Sequence[str]) -> Examples:
        """Return the images of a split, given these files and the published names of its classes.

        Raises:
            UserError: a file is damaged or has another content than this form.
        """


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
        try:
            store = store_of(form.read(files, split, classes), classes, split, self.ranks(classes))
        except UserError as error:
            raise UserError(f"{type(self).__name__} from {files[0]} ({form.name}): {error}") from error
        self.form = form.name
        return store

    def setting(self) -> dict[str, Any]:
        """Return what to state with a test result: form, images per class, and the settings of the base class."""
        sizes = [int(size) for store in self.stores.values() for size in store.class_sizes]
        ends = [str(size) for size in dict.fromkeys((min(sizes), max(sizes)))] if sizes else ["unknown"]
        return {"form": self.form, "images_per_class": " to ".join(ends), **super().setting()}
