"""FewJoint (Hou et al. 2020): intents of Chinese dialogues, as episodes whose support and query sets are given."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from metalit.data.module import EpisodicDataModule
from metalit.data.stream import Integers, Split, random_words
from metalit.data.texts.published import existing, of_form, read_json
from metalit.data.texts.ragged import RaggedTokens, from_arrays, ragged_arrays
from metalit.data.texts.text_form import TextForm
from metalit.data.texts.tokenizer import Tokenizer
from metalit.data.texts.vocabulary import Vocabulary
from metalit.data.texts.words import Words
from metalit.episode import Episode, Labelled
from metalit.errors import SettingError, UserError, at_least, check, settings_of
from metalit.networks.texts.tokenizer_files import TOKENIZER

FILES: dict[Split, tuple[str, ...]] = {
    "train": ("train.json",),
    "val": ("dev.json", "val.json", "valid.json"),
    "test": ("test.json",),
}
FORM = "{domain: [{support: {seq_ins: [[word, ...], ...], labels: [[intent], ...]}, query: {...}}, ...]}"
ADVICE = (
    "get FewJoint_for_MetaDialog.zip, which https://github.com/AtmaHou/MetaDialog links to, unpack it, and give the "
    "folder with train.json, dev.json and test.json"
)


class GivenEpisode(NamedTuple):
    """An episode of a file: rows of the texts and labels of its support and its query set, with names of classes."""

    support: tuple[Integers, Integers]
    query: tuple[Integers, Integers]
    classes: list[str]


class FewJoint(EpisodicDataModule):
    """Episodes of files, in the form of FewJoint "for MetaDialog".

    ``root`` holds ``train.json``, ``dev.json`` and ``test.json`` with episodes of whole domains. Support and query sets
    are those of the files. Validation and test take them in their order; training shuffles them for every pass. The
    form is that which the readme of MetaDialog describes; it was written by that description, without the data.

    Tasks differ in the number of their classes and examples, so a batch is one task, and the method must take any
    number of ways, such as ``PrototypicalNetwork``.

    Args:
        root: the folder with the three files.
        tokenizer: what makes tokens of texts; ``Words()`` if not given, for which each Chinese character is a word.
        max_length: at most how many tokens a text has.
        tasks_per_batch: 1.
        eval_tasks_per_batch: 1.
        val_episodes: at most those of the file; all if not given.
        test_episodes: likewise.
        **episodes: the other settings of ``EpisodicDataModule``; its shots and queries have no effect.

    Raises:
        SettingError: a setting is out of range, or there are no such files.
        UserError: a file has another form; the message names the episode.
    """

    def __init__(
        self,
        root: str = "data",
        tokenizer: Tokenizer | None = None,
        max_length: int = 64,
        tasks_per_batch: int = 1,
        eval_tasks_per_batch: int = 1,
        val_episodes: int | None = None,
        test_episodes: int | None = None,
        **episodes: Any,
    ) -> None:
        counts = {"val_episodes": val_episodes or 1, "test_episodes": test_episodes or 1}
        super().__init__(
            tasks_per_batch=tasks_per_batch, eval_tasks_per_batch=eval_tasks_per_batch, **counts, **episodes
        )
        for name, value in (("tasks_per_batch", tasks_per_batch), ("eval_tasks_per_batch", eval_tasks_per_batch)):
            check(name, value, value == 1, "1: tasks of these files differ in the number of their classes and texts")
        at_least(1, max_length=max_length, val_episodes=val_episodes, test_episodes=test_episodes)
        self.root, self.max_length = Path(root).expanduser(), max_length
        self.vocabulary = Vocabulary(Words() if tokenizer is None else tokenizer)
        self.wanted = {"val": val_episodes, "test": test_episodes}
        self._texts: dict[Split, list[str]] = {}
        self._tokens: dict[Split, RaggedTokens] = {}

    def make_stream(self, split: Split) -> "GivenStream":
        """Read the episodes of a split and return their stream."""
        stream = GivenStream(self._read(split), split, self.seed)
        count, wanted = len(stream.given), self.wanted.get(split)
        if wanted is not None and wanted > count:
            raise SettingError(f"{split}_episodes", wanted, f"at most {count}, the episodes of the {split} file")
        if split != "train":
            setattr(self, f"{split}_episodes", wanted or count)
        return stream

    def finish(self, episode: Episode, split: Split) -> Episode:
        """Replace rows by tokens, padded to one length."""
        if split not in self._tokens:
            encoded = self.fitted_tokenizer().located(self._texts[split], self.max_length)
            self._tokens[split] = from_arrays(ragged_arrays(encoded))
        device = episode.index.device
        tokens = self._tokens[split] = self._tokens[split].to(device)
        support, query = tokens.parts(episode.support.x, episode.query.x)
        return Episode(episode.support._replace(x=support), episode.query._replace(x=query), episode.index)

    def fitted_tokenizer(self) -> Tokenizer:
        """Return the tokenizer with the vocabulary of the training, or else of the file of training episodes."""
        return self.vocabulary.fitted(partial(self._texts_of, "train"))

    def example_form(self) -> TextForm:
        """Return how a text from elsewhere becomes an example."""
        return TextForm(self.fitted_tokenizer(), self.max_length)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of training in its stream, and the vocabulary."""
        return {**super().state_dict(), TOKENIZER: self.fitted_tokenizer().state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position if training, and the vocabulary."""
        self.take_over({type(self).__qualname__: state_dict})
        super().load_state_dict({name: value for name, value in state_dict.items() if name != TOKENIZER})

    def take_over(self, checkpoint: Any) -> None:
        """Use the vocabulary of a training on these or other data."""
        if self.vocabulary.take_over(checkpoint):
            self._tokens = {}

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result."""
        setting = {**super().setting(), **self.vocabulary.given.setting(), "max_length": self.max_length}
        return {**setting, "ways": "those of the files", "shots": "those of the files", "queries": "those of the files"}

    def _texts_of(self, split: Split) -> list[str]:
        if split not in self._texts:
            self._read(split)
        return self._texts[split]

    def _read(self, split: Split) -> list[GivenEpisode]:
        with settings_of(type(self)):
            (file,) = existing(self.root, ["few_joint", "FewJoint"], FILES[split], ADVICE)[:1]
        rows: dict[str, int] = {}
        given = list(read_episodes(file, rows))
        self._texts[split] = list(rows)
        return given


class GivenStream:
    """The stream of given episodes, as row indices of the texts; a batch is one task.

    Args:
        given: the episodes.
        split: the split; training shuffles the episodes for every pass.
        seed: seed of the shuffling.
    """

    def __init__(self, given: list[GivenEpisode], split: Split, seed: int) -> None:
        self.given, self.split, self.seed = given, split, seed

    def __call__(self, first: int, count: int) -> Episode:
        """Return episode ``first``, ``count`` being 1; support ``[1, S]`` and query ``[1, Q]``."""
        check("count", count, count == 1, "1: tasks differ in the number of their classes and texts")
        episode = self.given[self._number(first)]
        parts = [Labelled(*(torch.from_numpy(values[None]) for values in part)) for part in episode[:2]]
        return Episode(parts[0], parts[1], torch.tensor([first]))

    def _number(self, index: int) -> int:
        epoch, at = divmod(index, len(self.given))
        if self.split != "train":
            return at
        order = np.argsort(random_words(self.seed, self.split, epoch, 1, len(self.given))[0])
        return int(order[at])


def read_episodes(file: Path, rows: dict[str, int]) -> Iterator[GivenEpisode]:
    """Yield the episodes of a file.

    Args:
        file: the file.
        rows: row of each text so far; new texts are added.

    Raises:
        UserError: the file has another form.
    """
    content = read_json(file)
    of_form(isinstance(content, dict), file.name, FORM)
    for domain, episodes in content.items():
        for number, episode in enumerate(episodes, start=1):
            where = f"{file.name} {domain}:{number}"
            try:
                classes = sorted({label for (label,) in episode["support"]["labels"]})
                support, query = (_part(episode[name], classes, rows) for name in ("support", "query"))
            except (KeyError, TypeError, ValueError) as error:
                expected = f"{FORM}, with one intent for each text, and those of the query in the support too"
                of_form(False, where, f"{expected} ({type(error).__name__}: {error})")
            yield GivenEpisode(support, query, classes)


def _part(part: dict[str, Any], classes: list[str], rows: dict[str, int]) -> tuple[Integers, Integers]:
    # Chinese characters stand apart in these files, so that the joined text has the same words
    texts = [" ".join(words) for words in part["seq_ins"]]
    labels = [classes.index(label) for (label,) in part["labels"]]
    if not texts or len(texts) != len(labels):
        raise UserError(f"{len(texts)} texts and {len(labels)} labels")
    found = np.array([rows.setdefault(text, len(rows)) for text in texts], dtype=np.int64)
    return found, np.array(labels, dtype=np.int64)
