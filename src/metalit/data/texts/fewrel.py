"""FewRel (Han et al. 2018): 100 relations between two entities of a sentence, 700 sentences each; 80 are public."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metalit.data.class_splits import split_in_path
from metalit.data.tables import read_rows
from metalit.data.texts.base import TextDataModule
from metalit.data.texts.listing import Row, TextSource
from metalit.data.texts.marks import with_marks
from metalit.data.texts.published import existing, of_form, read_json, read_text

OFFICIAL = ("train_wiki.json", "val_wiki.json", "fewrel_train.json", "fewrel_val.json", "train.json", "val.json")
OF_BAO = ("fewrel.json",)
ADVICE = (
    "get train_wiki.json and val_wiki.json from https://github.com/thunlp/FewRel, or fewrel.json of Bao et al. from "
    "https://github.com/YujiaBao/Distributional-Signatures, and put them there"
)


class FewRel(TextDataModule):
    """FewRel, sentences of Wikipedia with the relation between two of their entities.

    ``root`` (or ``root/fewrel``) holds the official ``train_wiki.json`` and ``val_wiki.json``, of 64 and 16 relations;
    those of the official test are secret. Or ``fewrel.json`` of Bao et al. (2020), with all 80 by number.

    With ``markers``, the entities stand between ``[E1] ... [/E1]`` (head) and ``[E2] ... [/E2]`` (tail), as in Baldini
    Soares et al. (2019), and an example is ``MarkedTokens`` with the places of ``[E1]`` and ``[E2]``: an encoder that
    pools ``marks`` embeds these two. Without, an example is the sentence alone, and the relation has to be guessed.

    Args:
        markers: mark the two entities.
        splits: ``bao``, the division of Bao et al. (65/5/10), for their file, whose numbers it lists; ``given``, 64
            training and 16 validation relations of the official files; ``seed``; or lists of relations.
        shares: as in ``TextDataModule``; 65, 5 and 10 of 80 if not given.
        max_length: as in ``TextDataModule``.
        **settings: the other settings of ``TextDataModule``.
    """

    data_set, published = "fewrel", True

    def __init__(
        self,
        markers: bool = True,
        splits: str | dict[str, list[str]] = "seed",
        shares: tuple[float, float, float] = (65 / 80, 5 / 80, 10 / 80),
        max_length: int = 128,
        **settings: Any,
    ) -> None:
        super().__init__(splits=splits, shares=shares, max_length=max_length, **settings)
        self.marked = markers

    def source(self) -> "Relations":
        """Return the sentences of the files."""
        names = OF_BAO if self.splits == "bao" else (*OFFICIAL, *OF_BAO)
        files = existing(self.root, ["fewrel"], names, ADVICE)
        return Relations(files, self.marked)

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result."""
        return {**super().setting(), "markers": self.marked}


class Relations(TextSource):
    """Sentences by relation: the official JSON, or Bao et al.'s lines.

    Args:
        files: the files.
        markers: mark the entities.
    """

    def __init__(self, files: Sequence[Path], markers: bool) -> None:
        self.files, self.markers = files, markers

    def rows(self) -> Iterator[Row]:
        """Yield all sentences; the split is that of the file's name."""
        for file in self.files:
            yield from self._of_bao(file) if file.name in OF_BAO else self._official(file)

    def _official(self, file: Path) -> Iterator[Row]:
        content, split = read_json(file), split_in_path(file.name)
        of_form(isinstance(content, dict), file.name, "{relation: [{tokens, h, t}, ...]}")
        for relation, sentences in content.items():
            for number, sentence in enumerate(sentences, start=1):
                where = f"{file.name} {relation}:{number}"
                try:
                    head, tail = ([at for place in sentence[name][2] for at in place] for name in ("h", "t"))
                    text = self._text(sentence["tokens"], head, tail)
                except (KeyError, IndexError, TypeError, ValueError):
                    of_form(False, where, "{tokens: [...], h: [name, id, [[position, ...]]], t: ...}")
                yield Row(where, text, relation, split)

    def _of_bao(self, file: Path) -> Iterator[Row]:
        for number, row in read_rows(read_text(file, file.name).encode(), ".jsonl", file.name):
            where = f"{file.name}:{number}"
            try:
                # the first and the last position of each entity
                text = self._text(row["text"], row["head"], row["tail"])
            except (KeyError, TypeError, ValueError):
                of_form(False, where, "{text: [...], label: number, head: [first, last], tail: [first, last]}")
            yield Row(where, text, row.get("label"))

    def _text(self, tokens: Sequence[str], head: Sequence[int], tail: Sequence[int]) -> str:
        if not all(0 <= at < len(tokens) for at in (*head, *tail)):
            raise ValueError
        return with_marks(tokens, head, tail) if self.markers else " ".join(tokens)
