"""Which cells of a table are a text or a label."""

import unicodedata
from typing import Any

from metalit.data.columns import shown, whole
from metalit.errors import UserError

INVISIBLE = frozenset(["Cc", "Cf", "Zl", "Zp", "Zs"])  # Unicode's categories of controls, joiners and spaces


def text_from(value: Any) -> str:
    """Return the text that a cell holds, in Unicode's composed form (NFC), without space around it.

    Raises:
        UserError: it holds none, or nothing that can be seen, or a NUL character, or half a character.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UserError("its text is empty")
    if not isinstance(value, str):
        raise UserError(f"its text is {shown(value)}, expected words")
    if "\0" in value:
        raise UserError("its text has a NUL character, as files in UTF-16 have: save it as UTF-8")
    text = value.strip()
    if text.isascii():
        return text
    if all(unicodedata.category(character) in INVISIBLE for character in text):
        raise UserError(f"its text is {shown(text)}, in which nothing can be seen")
    return unicodedata.normalize("NFC", whole(text, "text"))
