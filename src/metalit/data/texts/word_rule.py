"""Where the words of a text are."""

import functools
import re
import unicodedata
from collections.abc import Iterator

# [E1] and the like mark the entities of a relation; see ``marks.py``
MARK = r"\[/?E[12]\]"
# ideographs and kana: scripts without spaces, in which every character is a token
SINGLE = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
VERSION = 1  # of the rule; a new one gives every tokenizer another digest


def words_of(text: str, lowercase: bool = True) -> Iterator[tuple[str, int]]:
    """Yield the words of a text with the character at which each begins.

    A word is a run of letters, digits and combining marks, with apostrophes inside ("don't"). Every ideograph or kana
    is a word, and so is every other character that is no space, such as a punctuation mark. In languages without
    spaces and ideographs, such as Thai, a run of letters is one word. Words are in Unicode's composed form (NFC), and
    in lower case if ``lowercase``, except for marks such as ``[E1]``.
    """
    for match in _pattern().finditer(text):
        word = match.group()
        if not word.isascii():
            word = unicodedata.normalize("NFC", word)
        yield (word.lower() if lowercase and match.lastgroup != "mark" else word), match.start()


@functools.cache
def _pattern() -> re.Pattern[str]:
    # Python's \w has no combining marks, without which the words of many Indian scripts fall to pieces
    marks = "".join(chr(at) for at in range(0x300, 0x1F000) if unicodedata.category(chr(at))[0] == "M")
    letter = rf"(?:(?![{SINGLE}])[\w{marks}])"
    return re.compile(rf"(?P<mark>{MARK})|{letter}+(?:['\u2019]{letter}+)*|[^\s\w]|[{SINGLE}]|\w")
