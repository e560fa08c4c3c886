"""CLINC150 (Larson et al. 2019): 150 intents of 10 domains, 150 queries each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metalit.data.texts.base import TextDataModule
from metalit.data.texts.listing import Row, TextSource
from metalit.data.texts.published import Remote, fetched, of_form, read_json

URL = "https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/"
FILES = {
    "data_full.json": Remote(f"{URL}data_full.json", "30c29dc6ab78edf3b5dfa640be204cde"),
    "domains.json": Remote(f"{URL}domains.json", "9beee9d0f36e07e914c1e3a626bdcb4a"),
}
PARTS = ("train", "val", "test")


class CLINC150(TextDataModule):
    """CLINC150, queries of a virtual assistant: the 150 intents of scope, with all their queries.

    ``root`` (or ``root/clinc150``) holds the official ``data_full.json`` and ``domains.json``; what is missing is
    downloaded. The queries of the file's train, val and test are put together, because whole intents are held out.
    Queries out of scope (``oos_*``) are never used. Four queries that are in two intents and one that is repeated are
    left out.

    Args:
        splits: ``protaugment/01`` to ``05``, the five divisions into 50/50/50 intents of Dopierre et al. (2021);
            ``seed``, also with ``split_by: group``, which keeps the intents of a domain together; or lists of intents.
        shares: as in ``TextDataModule``; a third each if not given.
        **settings: the other settings of ``TextDataModule``.
    """

    data_set, published = "clinc150", True

    def __init__(
        self,
        splits: str | dict[str, list[str]] = "protaugment/01",
        shares: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3),
        **settings: Any,
    ) -> None:
        super().__init__(splits=splits, shares=shares, **settings)

    def source(self) -> "Queries":
        """Return the queries of the files, downloaded if need be."""
        return Queries(fetched(self.root, ["clinc150"], FILES))


class Queries(TextSource):
    """The queries of ``data_full.json``, with the domains of ``domains.json``.

    Args:
        folder: the folder of the two files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self) -> Iterator[Row]:
        """Yield the queries of intents that are in scope."""
        content, domains = (read_json(self.folder / name) for name in FILES)
        of_form(isinstance(domains, dict), "domains.json", "{domain: [intent, ...]}")
        of_form(isinstance(content, dict) and set(PARTS) <= set(content), "data_full.json", "{train: [...], ...}")
        groups = {intent: domain for domain, intents in domains.items() for intent in intents}
        for part in PARTS:
            for number, row in enumerate(content[part], start=1):
                where = f"data_full.json {part}:{number}"
                of_form(isinstance(row, list) and len(row) == 2, where, "[query, intent]")
                if row[1] != "oos":
                    yield Row(where, row[0], row[1], None, groups.get(row[1]))
