"""One's own pictures as a data set, in whichever form they lie on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info

from metalit.data.class_splits import ClassSplits, check_shares, check_splits, large_enough, split_classes
from metalit.data.columns import check_image_columns
from metalit.data.images.building import Built, build_in_memory, usable_cores
from metalit.data.images.caching import ImageCache
from metalit.data.images.finding import BadFile, list_of, refuse
from metalit.data.images.forms import Form, Told, find_source
from metalit.data.images.listing import Listing, Source
from metalit.data.images.loading import OnBadFile
from metalit.data.images.memory import memory_limit
from metalit.data.images.objects import Objects
from metalit.data.images.picture_form import PictureForm
from metalit.data.images.resizing import Fit, Resize
from metalit.data.module import ClassificationDataModule
from metalit.data.store import ClassStore
from metalit.data.stream import Integers, Split
from metalit.errors import SettingError, UserError, at_least, settings_of

REMEDY = "replace or remove them, or set data.on_bad_file to skip"


class Prepared(NamedTuple):
    """A data set whose images are decoded."""

    listing: Listing
    bad: dict[int, str]
    cache: ImageCache | None
    pixels: torch.Tensor | None


class ImageFolder(ClassificationDataModule):
    """Pictures in folders, tables, parquet files or tar shards, as square RGB images.

    ``root`` is one of these, found by looking (``form: auto``):

    - ``root/<class>/*``, at any depth below the class;
    - ``root/<split>/<class>/*``, with train, val (or validation) and test;
    - a table, ``root`` itself or ``labels.csv`` or ``.jsonl`` in it: file, label and, if given, split and group;
      Meta-Album's sets as they are;
    - Hugging Face's imagefolder (``metadata.csv`` or ``.jsonl``) or parquet files;
    - WebDataset's tar shards.

    Images are decoded once, in parallel, into a cache that goes by the names, sizes and times of the files and by the
    settings. Training, validation and test never share a class.

    Args:
        size: height and width of the images, in pixels.
        fit: how they become squares: ``crop``, ``pad`` or ``squash``.
        form: the form of the files.
        columns: columns with unusual names, such as ``{label: species}``; meanings are file, label, split and group. A
            list for label says that each class has a column, 1 in that of the image and 0 in the others.
        image_dir: pattern of the folders beside a table that hold its images, such as ``images_*/images``; if not
            given, they are in the folder of the table or in ``images`` beside it.
        only_classes: only these classes; the images of others are not even decoded.
        splits: how the classes are divided: ``given`` by folders or a column, by ``seed``, ``auto`` (given, else by
            seed), all to ``test``; or lists of classes by split, or a folder with ``train.txt``, ``val.txt`` and
            ``test.txt``.
        shares: shares of training, validation and test classes, if divided by seed.
        split_seed: seed of that division, independent of the episodes' ``seed``.
        split_by: ``group`` keeps the classes of one group, such as a super-category, in one split.
        on_bad_file: refuse files that cannot be used, all in one message, or leave them out and say so.
        small_classes: refuse classes with fewer images than an episode needs, or leave them out and say so.
        store: ``memory``; ``mmap`` leaves the decoded images in a file, of which only those of an episode are read;
            ``encoded`` keeps the files as they are and decodes them for each episode; ``auto`` is memory if they take
            less than a quarter of it, else mmap.
        cache_dir: folder of the cache; ``metalit-cache`` in ``root`` if not given.
        decoders: processes that decode; one for each core if not given.
        dataset: in Python only: an object with ``__len__``, ``__getitem__`` and ``targets``, such as torchvision's, or
            one for each split, in place of files in ``root``.
        **settings: the settings of ``ClassificationDataModule``.

    Raises:
        SettingError: a setting is out of range, or there are no such files.
        UserError: images or classes cannot be used; the message names them with the reason.
    """

    def __init__(
        self,
        size: int = 84,
        fit: Fit = "crop",
        form: Form = "auto",
        columns: dict[str, str | list[str]] | None = None,
        image_dir: str | None = None,
        only_classes: Sequence[str] | None = None,
        splits: str | dict[str, list[str]] = "auto",
        shares: Sequence[float] = (0.64, 0.16, 0.2),
        split_seed: int = 0,
        split_by: Literal["class", "group"] = "class",
        on_bad_file: OnBadFile = "error",
        small_classes: Literal["error", "skip"] = "error",
        store: Literal["auto", "memory", "mmap", "encoded"] = "auto",
        cache_dir: str | None = None,
        decoders: int | None = None,
        dataset: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.resize, self.form = Resize(size, fit), form
        self.told = Told(*check_image_columns(columns), image_dir)
        self.only_classes = None if only_classes is None else list(only_classes)
        self.splits, self.shares, self.split_seed, self.split_by = splits, shares, split_seed, split_by
        self.on_bad_file, self.small_classes, self.store, self.dataset = on_bad_file, small_classes, store, dataset
        self.decoders = usable_cores() if decoders is None else decoders
        self.cache_dir = self._cache_dir(cache_dir)
        at_least(1, decoders=self.decoders)
        check_shares(shares)
        check_splits(splits)  # the lists are read at once, so that a mistake in them is found before any decoding
        self._prepared: Prepared | None = None
        self._class_splits: ClassSplits | None = None
        self._small: dict[Split, list[str]] = {}

    def prepare_data(self) -> None:
        """Decode the images in one process per machine, before the others start."""
        self.prepared()

    def prepared(self) -> Prepared:
        """Return the decoded data set, from the cache of an earlier run if nothing has changed."""
        if self._prepared is None:
            with settings_of(type(self)):
                source = self._source()
                listing = source.listing()
                if self.only_classes is not None:
                    listing = listing.only(self.only_classes)
                if not len(listing) and not listing.bad:
                    raise SettingError("root", self.root, "a folder with images, as <class>/*.jpg: there are none")
                if self.on_bad_file == "error":
                    refuse(listing.bad, REMEDY)
                self._class_splits = split_classes(
                    listing, self.splits, self.shares, self.split_seed, self.split_by == "group"
                )
                self._prepared = self._decoded(source, listing)
        return self._prepared

    def class_splits(self) -> ClassSplits:
        """Return the classes of each split, sorted by name, those with too few images included."""
        self.prepared()
        assert self._class_splits is not None
        return self._class_splits

    def load(self, split: Split) -> ClassStore:
        """Return the images of a split, ``[examples, 3, size, size]`` uint8, with the names of classes and files."""
        prepared, wanted = self.prepared(), set(self.class_splits()[split])
        listing, good = prepared.listing, np.ones(len(prepared.listing), dtype=np.bool_)
        good[list(prepared.bad)] = False
        rows = {
            name: np.flatnonzero(good[of.start : of.stop]) + of.start
            for name, of in ((name, listing.rows(number)) for number, name in enumerate(listing.classes))
            if name in wanted
        }
        rows = self._large_enough(split, rows)
        if not rows:
            raise UserError(f"there are no classes in the {split} split of {self.root} ({self.class_splits().rule})")
        order = np.concatenate(list(rows.values()))
        sizes = np.array([len(of) for of in rows.values()], dtype=np.int64)
        return ClassStore(self._examples(prepared, order), sizes, list(rows), listing.names.take(order))

    def example_form(self) -> PictureForm:
        """Return the form of a picture in this data set, for pictures from elsewhere."""
        return PictureForm(self.resize.size, fit=self.resize.fit)

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: resizing, splits, counts, and those of the base class."""
        setting: dict[str, Any] = {"resize": self.resize.describe(), **super().setting()}
        if self._prepared is not None:
            setting |= {
                "class_split": self.class_splits().rule,
                "classes": {split: len(classes) for split, classes in self.class_splits().items()},
                "images": len(self._prepared.listing) - len(self._prepared.bad),
                "bad_files_left_out": len(self._prepared.listing.bad) + len(self._prepared.bad),
                "small_classes_left_out": {split: names for split, names in self._small.items() if names},
            }
        return setting

    def _cache_dir(self, given: str | None) -> Path:
        if given is not None:
            return Path(given).expanduser()
        return (self.root.parent if self.root.is_file() else self.root) / "metalit-cache"

    def _source(self) -> Source:
        if self.dataset is None:
            return find_source(self.root, self.form, self.told, self.cache_dir)
        return Objects(self.dataset)

    def _decoded(self, source: Source, listing: Listing) -> Prepared:
        if not listing.state:
            return self._decoded_in_memory(source, listing)
        keep_files = self.store == "encoded"
        cache = ImageCache(self.cache_dir, str(self._owner()), source, listing, self.resize, keep_files)
        built = cache.read()
        if built is None:
            built = cache.build(self.decoders, keep_if_bad=self.on_bad_file == "skip")
        else:
            rank_zero_info(f"Images: {len(listing)} from the cache {cache.path}")
        self._judge(listing, built, f"; listed in {cache.left_out}")
        return Prepared(listing, built.bad, cache, None)

    def _decoded_in_memory(self, source: Source, listing: Listing) -> Prepared:
        if self.store in ("mmap", "encoded"):
            raise SettingError("store", self.store, "memory: whether the images of this object change cannot be told")
        built, pixels = build_in_memory(source, listing, self.resize)
        self._judge(listing, built, "")
        return Prepared(listing, built.bad, None, torch.from_numpy(pixels))

    def _judge(self, listing: Listing, built: Built, where: str) -> None:
        bad = [BadFile(listing.names[row], reason) for row, reason in sorted(built.bad.items())]
        if self.on_bad_file == "error":
            refuse(bad, REMEDY)
        elif bad or listing.bad:
            every = [*listing.bad, *bad]
            rank_zero_info(f"Images: {len(every)} left out: {list_of(every)}{where}")

    def _examples(self, prepared: Prepared, rows: Integers) -> Any:
        if prepared.cache is None:
            assert prepared.pixels is not None
            return prepared.pixels[torch.from_numpy(rows)]
        needed = len(prepared.listing) * 3 * self.resize.size**2
        in_memory = self.store == "memory" or (self.store == "auto" and needed < memory_limit() // 4)
        return prepared.cache.examples(rows, in_memory)

    def _large_enough(self, split: Split, rows: dict[str, Integers]) -> dict[str, Integers]:
        """Return the classes that suffice for an episode."""
        train = split == "train"
        needed = self.train_shots + self.train_queries if train else self.shots + self.queries
        kept, self._small[split] = large_enough(rows, needed, split, self.small_classes == "skip", "images")
        return kept

    def _owner(self) -> Path | str:
        """Return what tells this data set from others in the same folder of caches."""
        inside = self.cache_dir.absolute().is_relative_to(self.root.absolute())
        return "" if inside else self.root.absolute()
