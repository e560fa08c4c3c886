"""Banking77 (Casanueva et al. 2020): 77 intents of customers of a bank."""

from typing import Any

from metalit.data.texts.base import TextDataModule
from metalit.data.texts.published import Remote, fetched
from metalit.data.texts.tables import Tables

URL = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/"
    "57ec275d8078af65b7731c2a98be812d844a6d6b/banking_data/"
)
FILES = {
    "train.csv": Remote(f"{URL}train.csv", "cec64185f4197906aabce0781ef9a19b"),
    "test.csv": Remote(f"{URL}test.csv", "8dcd9dc31b686c75ec1f24bf23c140cb"),
}


class Banking77(TextDataModule):
    """Banking77, fine-grained questions to a bank: 77 intents of 75 to 227 questions.

    ``root`` (or ``root/banking77``) holds the official ``train.csv`` and ``test.csv``; what is missing is downloaded.
    Their questions are put together, because whole intents are held out. Eleven repeated ones are left out.

    Args:
        splits: ``protaugment/01`` to ``05``, the five divisions into 25/25/27 intents of Dopierre et al. (2021);
            ``seed``; or lists of intents.
        shares: as in ``TextDataModule``; those of ProtAugment if not given.
        **settings: the other settings of ``TextDataModule``.
    """

    data_set, published = "banking77", True

    def __init__(
        self,
        splits: str | dict[str, list[str]] = "protaugment/01",
        shares: tuple[float, float, float] = (25 / 77, 25 / 77, 27 / 77),
        **settings: Any,
    ) -> None:
        super().__init__(splits=splits, shares=shares, **settings)

    def source(self) -> Tables:
        """Return the questions of both files, downloaded if need be."""
        folder = fetched(self.root, ["banking77"], FILES)
        return Tables(folder, {"text": "text", "label": "category"}, files=[folder / name for name in FILES])
