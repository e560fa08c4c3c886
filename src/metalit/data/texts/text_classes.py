"""One's own texts as a data set."""

from typing import Any

from metalit.data.columns import check_columns
from metalit.data.texts.base import TextDataModule
from metalit.data.texts.tables import OF_TEXTS, Tables


class TextClasses(TextDataModule):
    """Texts with labels in CSV, TSV, JSONL or parquet files.

    ``root`` is one such file or a folder of them. Columns are found by their usual names: text (sentence, utterance,
    query, headline, ...), label (intent, category, class, ...), and split and group, if they are there. Files called
    train, val and test divide the classes if no class is in two of them; otherwise all rows are put together, and the
    classes are divided. Training, validation and test never share a class.

    Args:
        columns: columns with unusual names, such as ``{text: body, label: topic}``.
        **settings: the settings of ``TextDataModule``. Its ``splits``: ``given`` by files or a column, by ``seed``,
            ``auto`` (given, else by seed), all to ``test``; or lists of classes by split, or a folder with
            ``train.txt``, ``val.txt`` and ``test.txt``.

    Raises:
        SettingError: a setting is out of range, or there are no such files.
        UserError: rows or classes cannot be used; the message names file and line.
    """

    def __init__(self, columns: dict[str, str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.columns = check_columns(columns, OF_TEXTS)

    def source(self) -> Tables:
        """Return the tables in ``root``."""
        return Tables(self.root, self.columns)
