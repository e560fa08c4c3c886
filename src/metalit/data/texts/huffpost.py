"""HuffPost headlines (Misra 2018): 41 categories of news."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metalit.data.tables import read_rows
from metalit.data.texts.base import TextDataModule
from metalit.data.texts.listing import Row, TextSource
from metalit.data.texts.published import existing, of_form, read_text

OF_BAO = ("huffpost.json",)
OF_KAGGLE = ("News_Category_Dataset_v2.json", "News_Category_Dataset_v3.json", "News_Category_Dataset.json")
ADVICE = (
    "get huffpost.json of Bao et al. from https://github.com/YujiaBao/Distributional-Signatures, or the News Category "
    "Dataset from https://www.kaggle.com/datasets/rmisra/news-category-dataset, and put it there"
)


class HuffPost(TextDataModule):
    """Headlines of the HuffPost from 2012 to 2018 with their category.

    ``root`` (or ``root/huffpost``) holds ``huffpost.json`` of Bao et al. (2020), lines of
    ``{"text": [word, ...], "label": number}`` with 36 900 headlines of 41 categories; or Kaggle's News Category Dataset
    with lines of ``{"headline": ..., "category": ...}``. Headlines that are repeated, or in two categories, are left
    out.

    Args:
        splits: ``bao``, the division of Bao et al. (20/5/16), for their file, whose numbers it lists; ``seed``; or
            lists of categories.
        shares: as in ``TextDataModule``; 20, 5 and 16 of 41 if not given.
        **settings: the other settings of ``TextDataModule``.
    """

    data_set, published = "huffpost", True

    def __init__(
        self,
        splits: str | dict[str, list[str]] = "seed",
        shares: tuple[float, float, float] = (20 / 41, 5 / 41, 16 / 41),
        **settings: Any,
    ) -> None:
        super().__init__(splits=splits, shares=shares, **settings)

    def source(self) -> "Headlines":
        """Return the headlines of the file."""
        names = OF_BAO if self.splits == "bao" else (*OF_BAO, *OF_KAGGLE)
        return Headlines(existing(self.root, ["huffpost"], names, ADVICE)[:1])


class Headlines(TextSource):
    """Headlines in lines of JSON.

    Args:
        files: the files.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def rows(self) -> Iterator[Row]:
        """Yield all headlines; those without words, of which Kaggle's file has a few, are left out."""
        for file in self.files:
            for number, row in read_rows(read_text(file, file.name).encode(), ".jsonl", file.name):
                where, text = f"{file.name}:{number}", row.get("text", row.get("headline"))
                expected = "{text: [word, ...], label: number} or {headline: ..., category: ...}"
                of_form(isinstance(text, list | str), where, expected)
                text = " ".join(map(str, text)) if isinstance(text, list) else str(text)
                if text.strip():
                    yield Row(where, text, row.get("label", row.get("category")))
