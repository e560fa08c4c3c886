"""The base class of data sets of texts: classes, splits, tokens and the vocabulary of the training."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from metalit.data import splits
from metalit.data.cache import Arrays, cached_arrays
from metalit.data.class_splits import ClassSplits, check_shares, check_splits, large_enough, split_classes
from metalit.data.module import ClassificationDataModule
from metalit.data.store import ClassStore
from metalit.data.stream import Integers, Split
from metalit.data.texts.listing import TextListing, TextSource, list_of, listed, refuse
from metalit.data.texts.marks import marked_arrays
from metalit.data.texts.ragged import LazyTokens, RaggedTokens, from_arrays, ragged_arrays
from metalit.data.texts.text_form import TextForm
from metalit.data.texts.tokenizer import Tokenizer
from metalit.data.texts.vocabulary import Vocabulary
from metalit.data.texts.words import Words
from metalit.errors import SettingError, UserError, at_least, settings_of
from metalit.networks.texts.tokenizer_files import TOKENIZER

SHIPPED = Path(splits.__file__).parent
VERSION = "1"  # of the tokens in the cache; a new one invalidates older caches
OnBadRow = Literal["error", "skip"]


class TextDataModule(ClassificationDataModule, ABC):
    """Few-shot classification of texts. A subclass says in which form they lie on disk.

    Texts become tokens when an episode first needs them. The vocabulary is that of the training classes; it is kept in
    the checkpoint, and a test on other data uses that of the checkpoint. Tokens are cached in ``root/metalit-cache``.

    Args:
        tokenizer: what makes tokens of texts; ``Words()`` if not given.
        max_length: at most how many tokens a text has, special tokens included; the others are cut off.
        splits: how the classes are divided: ``auto``, ``seed``, ``given``, ``test``, lists of classes, or the name of
            lists such as ``protaugment/01``, of those that the data set has.
        shares: shares of training, validation and test classes, if divided by seed.
        split_seed: seed of that division, independent of the episodes' ``seed``.
        split_by: ``group`` keeps the classes of one group, such as a domain, in one split.
        on_bad_row: refuse rows that cannot be used, all in one message, or leave them out and say so.
        small_classes: refuse classes with fewer texts than an episode needs, or leave them out and say so.
        cache_dir: folder of the cache; ``metalit-cache`` in ``root`` if not given.
        **settings: the settings of ``ClassificationDataModule``.
    """

    marked = False  # whether each text has two marked places
    data_set = ""  # name of the folder with lists of classes that come with metalit
    published = False  # whether a few texts in two classes are a property of the data set, which no user can mend

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        max_length: int = 64,
        splits: str | dict[str, list[str]] = "auto",
        shares: Sequence[float] = (0.64, 0.16, 0.2),
        split_seed: int = 0,
        split_by: Literal["class", "group"] = "class",
        on_bad_row: OnBadRow = "error",
        small_classes: Literal["error", "skip"] = "error",
        cache_dir: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        at_least(1, max_length=max_length)
        self.vocabulary, self.max_length = Vocabulary(Words() if tokenizer is None else tokenizer), max_length
        self.splits, self.shares, self.split_seed, self.split_by = splits, shares, split_seed, split_by
        self.on_bad_row, self.small_classes = on_bad_row, small_classes
        folder = self.root.parent if self.root.is_file() else self.root
        self.cache_dir = folder / "metalit-cache" if cache_dir is None else Path(cache_dir).expanduser()
        check_shares(shares)
        check_splits(self.division())  # the lists are read at once, so that a mistake in them is found early
        self._listing: TextListing | None = None
        self._class_splits: ClassSplits | None = None
        self._arrays: Arrays | None = None
        self._small: dict[Split, list[str]] = {}

    @abstractmethod
    def source(self) -> TextSource:
        """Return the texts in their form on disk, downloaded if need be."""

    def division(self) -> str | Mapping[str, Sequence[str]]:
        """Return ``splits`` as a rule, as lists or as a folder of lists: the user's, or one that comes with metalit."""
        if isinstance(self.splits, str):
            shipped = SHIPPED / self.data_set / self.splits
            if (shipped / "train.txt").is_file():
                return str(shipped)
        return self.splits

    def prepare_data(self) -> None:
        """Read the texts in one process per machine, before the others start."""
        self.listing()

    def listing(self) -> TextListing:
        """Return all texts, those of rows that cannot be used left out.

        Raises:
            SettingError: there are no such files.
            UserError: rows or files cannot be used.
        """
        if self._listing is None:
            with settings_of(type(self)):
                found = listed(self.source().rows(), refuse_contradictions=not self.published)
                if self.on_bad_row == "error":
                    refuse(found.bad)
                if not found.entries:
                    raise SettingError("root", self.root, "files with texts and their labels; no row can be used")
                self._class_splits = self._divided(found)
            self._listing = found
            self._say(found)
        return self._listing

    def class_splits(self) -> ClassSplits:
        """Return the classes of each split, sorted by name, those with too few texts included."""
        self.listing()
        assert self._class_splits is not None
        return self._class_splits

    def load(self, split: Split) -> ClassStore:
        """Return the texts of a split as ``Tokens`` of any length, with the names of classes and rows."""
        entries, wanted = self.listing().entries, self.class_splits()[split]
        rows: dict[str, list[int]] = {name: [] for name in wanted}
        for row, entry in enumerate(entries):
            if entry.label in rows:
                rows[entry.label].append(row)
        train = split == "train"
        needed = self.train_shots + self.train_queries if train else self.shots + self.queries
        rows, self._small[split] = large_enough(rows, needed, split, self.small_classes == "skip", "texts")
        if not rows:
            raise UserError(f"there are no classes in the {split} split of {self.root} ({self.class_splits().rule})")
        order = np.concatenate([np.array(of, dtype=np.int64) for of in rows.values()])
        sizes = np.array([len(of) for of in rows.values()], dtype=np.int64)
        names = [entries[row].name for row in order.tolist()]
        return ClassStore(LazyTokens(len(order), partial(self.tokens, order)), sizes, list(rows), names)

    def tokens(self, rows: Integers) -> RaggedTokens:
        """Return these texts of the listing as tokens."""
        if self._arrays is None:
            tokenizer = self.fitted_tokenizer()
            key = [VERSION, self.listing().state, tokenizer.digest, self.max_length, self.marked]
            # one file for each data set and kind of tokenizer: another vocabulary replaces it
            owner = [str(self.root.absolute()), type(self).__name__, type(tokenizer).__name__]
            path = self.cache_dir / f"tokens-{_digest(owner)[:16]}.npz"
            self._arrays = cached_arrays(path, _digest(key), partial(self._encoded, tokenizer))
        return from_arrays(self._arrays).selected(rows)

    def fitted_tokenizer(self) -> Tokenizer:
        """Return the tokenizer with the vocabulary of the training, or else of these training classes.

        Raises:
            UserError: there are no training classes to take it from.
        """
        return self.vocabulary.fitted(self._training_texts)

    def example_form(self) -> TextForm:
        """Return how a text from elsewhere becomes an example of this data set."""
        return TextForm(self.fitted_tokenizer(), self.max_length, self.marked)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of training in its stream, and the vocabulary."""
        return {**super().state_dict(), TOKENIZER: self.fitted_tokenizer().state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position if training, and the vocabulary."""
        self.take_over({type(self).__qualname__: state_dict})
        super().load_state_dict({name: value for name, value in state_dict.items() if name != TOKENIZER})

    def take_over(self, checkpoint: Mapping[str, Any]) -> None:
        """Use the vocabulary of a training on these or other data.

        Raises:
            UserError: the training had another tokenizer.
        """
        super().take_over(checkpoint)
        if not self.vocabulary.take_over(checkpoint):
            return
        self._arrays = None
        # tokens of another vocabulary, if there are any, are made again
        self.stores = {split: self.embedded(self.load(split), split) for split in self.stores}

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: tokens, splits, counts, and those of the base class."""
        setting = {**super().setting(), **self.vocabulary.given.setting(), "max_length": self.max_length}
        if self._listing is not None:
            setting |= {
                "class_split": self.class_splits().rule,
                "classes": {split: len(classes) for split, classes in self.class_splits().items()},
                "texts": len(self._listing.entries),
                "repeated_texts_left_out": self._listing.repeated,
                "texts_in_two_classes_left_out": self._listing.contradicted,
                "bad_rows_left_out": len(self._listing.bad),
                "small_classes_left_out": {split: names for split, names in self._small.items() if names},
            }
        if self._arrays is not None:
            setting |= {**self.fitted_tokenizer().setting(), "texts_cut": int(self._arrays["cut"].sum())}
        return setting

    def _training_texts(self) -> list[str]:
        training = set(self.class_splits()["train"])
        return [entry.text for entry in self.listing().entries if entry.label in training]

    def _divided(self, found: TextListing) -> ClassSplits:
        division = self.division()
        divided = split_classes(found, division, self.shares, self.split_seed, self.split_by == "group")
        if division is not self.splits:
            divided.rule = str(self.splits)
        return divided

    def _encoded(self, tokenizer: Tokenizer) -> Arrays:
        entries = self.listing().entries
        texts = [entry.text for entry in entries]
        encoded = tokenizer.located(texts, self.max_length)
        if not self.marked:
            return ragged_arrays(encoded)
        return marked_arrays(texts, encoded, [entry.name for entry in entries])

    def _say(self, found: TextListing) -> None:
        if found.repeated:
            rank_zero_info(f"Texts: {found.repeated} left out that their class has already, word for word")
        if found.contradicted:
            rank_zero_info(f"Texts: {found.contradicted} left out that are in two classes")
        if found.bad:
            rank_zero_info(f"Texts: {len(found.bad)} rows left out: {list_of(found.bad)}")


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode(errors="surrogateescape")).hexdigest()
