"""The tokenizer of a pretrained language model."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from metalit.data.texts.tokenizer import UNKNOWN, Encoded, Tokenizer
from metalit.errors import settings_of
from metalit.networks.texts.tokenizer_files import load_tokenizer, tokenizer_digest

BATCH = 1024  # texts that the tokenizer takes at once, which bounds its memory


class PretrainedTokenizer(Tokenizer):
    """The fast tokenizer of a model of transformers, with the model's special tokens around each text.

    Needs ``metalit[text]``. It is read at first use; no code of the Hub or of the folder is executed.

    Args:
        name_or_path: a folder with ``tokenizer.json``, or the name of a model of the Hugging Face Hub.
        revision: commit, tag or branch on the Hub.
    """

    def __init__(self, name_or_path: str, revision: str | None = None) -> None:
        self.name_or_path, self.revision = name_or_path, revision

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings only, so that other processes read the files themselves."""
        return {"name_or_path": self.name_or_path, "revision": self.revision}

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers.

        Raises:
            SettingError: see ``load_tokenizer``.
        """
        with settings_of(type(self)):
            return load_tokenizer(self.name_or_path, self.revision)

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.tokenizer)

    @property
    def digest(self) -> str:
        """That of the vocabulary and the special tokens, the same as the model's ``tokenizer_digest``."""
        return self._digest

    def located(self, texts: Sequence[str], max_length: int) -> list[Encoded]:
        """Return each text as at most ``max_length`` tokens, special tokens included, with their places in the text."""
        longest = min(max_length, int(self.tokenizer.model_max_length))
        found = []
        for first in range(0, len(texts), BATCH):
            part = list(texts[first : first + BATCH])
            for each in self.tokenizer(part, truncation=True, max_length=longest, verbose=False).encodings:
                added = np.array(each.special_tokens_mask, dtype=bool)
                starts = np.array([start for start, _ in each.offsets], dtype=np.int32)
                ids = np.array(each.ids or [self._unknown], dtype=np.int32)
                starts = np.where(added, np.int32(-1), starts) if each.ids else np.array([-1], dtype=np.int32)
                found.append(Encoded(ids, starts, bool(each.overflowing)))
        return found

    def identity(self) -> dict[str, Any]:
        """Return the digest of the files."""
        return {"digest": self.digest}

    def setting(self) -> dict[str, Any]:
        """Return what to state with a result."""
        revision = {} if self.revision is None else {"tokenizer_revision": self.revision}
        return {**super().setting(), "tokenizer_of": self.name_or_path, **revision}

    @cached_property
    def _digest(self) -> str:
        return tokenizer_digest(self.tokenizer)

    @property
    def _unknown(self) -> int:
        known = self.tokenizer.unk_token_id
        return UNKNOWN if known is None else int(known)
