"""Which cells of a table are a text or a label."""

import unicodedata
from typing import Any

from metalit.errors import UserError


def text_from(value: Any) -> str:
    """Return the text that a cell holds, in Unicode's composed form (NFC), without space around it.

    Raises:
        UserError: it holds none, or a NUL character.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UserError("its text is empty")
    if not isinstance(value, str):
        raise UserError(f"its text is {value!r}, expected words")
    if "\0" in value:
        raise UserError("its text has a NUL character, as files in UTF-16 have: save it as UTF-8")
    text = value.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)
