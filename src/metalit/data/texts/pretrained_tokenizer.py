"""The tokenizer of a pretrained language model."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from metalit.data.texts.tokenizer import UNKNOWN, Encoded, Tokenizer
from metalit.errors import check, settings_of
from metalit.files import write_text
from metalit.networks.texts.tokenizer_files import load_tokenizer, tokenizer_digest

KEPT = frozenset(["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
BATCH = 1024  # texts that the tokenizer takes at once, which bounds its memory


class PretrainedTokenizer(Tokenizer):
    """The fast tokenizer of a model of transformers, with the model's special tokens around each text.

    Needs ``metalit[text]``. It is read at first use; no code of the Hub or of the folder is executed.

    Args:
        name_or_path: a folder with ``tokenizer.json``, or the name of a model of the Hugging Face Hub.
        revision: commit, tag or branch on the Hub.
        files: what ``file_texts`` returns, in place of files: how a saved classifier keeps its tokenizer.
    """

    def __init__(self, name_or_path: str, revision: str | None = None, files: dict[str, str] | None = None) -> None:
        self.name_or_path, self.revision, self.files = name_or_path, revision, files

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings only, so that other processes read the files themselves."""
        return {"name_or_path": self.name_or_path, "revision": self.revision, "files": self.files}

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers.

        Raises:
            SettingError: see ``load_tokenizer``.
        """
        with settings_of(type(self)):
            if self.files is None:
                return load_tokenizer(self.name_or_path, self.revision)
            with TemporaryDirectory() as folder:  # transformers reads a tokenizer from files only
                for name in KEPT & self.files.keys():
                    write_text(Path(folder) / name, self.files[name])
                return load_tokenizer(folder)

    def file_texts(self) -> dict[str, str]:
        """Return the texts of the files from which the tokenizer can be made again, by their names."""
        if self.files is not None:
            return self.files
        with TemporaryDirectory() as folder:
            self.tokenizer.save_pretrained(folder)
            written = sorted(path for path in Path(folder).iterdir() if path.name in KEPT)
            return {path.name: path.read_text("utf-8") for path in written}

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.tokenizer)

    @property
    def digest(self) -> str:
        """That of the vocabulary, the special tokens and the rules, the same as the model's ``tokenizer_digest``."""
        return self._digest

    def located(self, texts: Sequence[str], max_length: int) -> list[Encoded]:
        """Return each text as at most ``max_length`` tokens, special tokens included, with their places in the text.

        Raises:
            SettingError: so few that there is no room for a word.
        """
        longest = min(max_length, int(self.tokenizer.model_max_length))
        added = self.tokenizer.num_special_tokens_to_add()
        expected = f"at least {added + 1}: {added} tokens of each text are the tokenizer's own"
        check("data.max_length", longest, longest > added, expected)
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
