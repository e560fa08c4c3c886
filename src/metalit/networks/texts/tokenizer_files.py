"""The tokenizer of a pretrained text model, and the digest by which data and model know that they have the same one."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from metalit.errors import SettingError

# a folder needs one of these; those of older models are converted when they are read
FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
TOKENIZER = "metalit.tokenizer"  # entry of a checkpoint's state of the data
# upper case, accents in both of Unicode's forms, full width, spaces, numbers, punctuation and scripts without spaces
PROBES = (
    "The Caf\u00e9's e\u0301t\u00e9: it's \uff26\uff55\uff4c\uff4c,  3.50\u00a0dollars",
    "NA\u00cfVE x_y@example.com #7 \U0001f44d\nnew\tLINE don\u2019t",
    "\u6211\u60f3\u542cmusic \u0130stanbul \u0e44\u0e17\u0e22 \u0645\u0631\u062d\u0628\u0627 [E1] 1234567",
)
INSTALL = "pip install 'metalit[text]'"


class UnreadableTokenizerError(SettingError):
    """There is no tokenizer, or transformers cannot read its files."""


def load_tokenizer(name_or_path: str, revision: str | None = None) -> Any:
    """Return the fast tokenizer of a folder, or of a model of the Hugging Face Hub or its cache on this machine.

    No code of the folder or of the Hub is executed. ``HF_HUB_OFFLINE=1`` keeps it off the network.

    Args:
        name_or_path: a folder with ``tokenizer.json`` or an older form of it, or the name of a model of the Hub.
        revision: commit, tag or branch on the Hub.

    Raises:
        ImportError: transformers is not installed.
        SettingError: there is no such tokenizer, it has no fast form, it wants code of its own to be executed, or its
            files are damaged.
    """
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise ImportError(f"a pretrained tokenizer needs transformers, which is not installed: {INSTALL}") from error
    where = _existing(name_or_path)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            where, revision=revision or "main", use_fast=True, trust_remote_code=False
        )
    except Exception as error:  # of transformers, the Hub's client and the tokenizers library; all mean the same here
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason or "custom code" in reason:
            raise SettingError("name_or_path", name_or_path, NO_CODE) from error
        raise UnreadableTokenizerError("name_or_path", name_or_path, _sound(where, reason)) from error
    if not tokenizer.is_fast:
        raise SettingError("name_or_path", name_or_path, "a tokenizer with a fast form (tokenizer.json); it has none")
    return tokenizer


NO_CODE = (
    "a tokenizer that needs no code of its own; this one asks for its own code to be executed (auto_map, "
    "trust_remote_code), which metalit does not do"
)


def tokenizer_digest(tokenizer: Any) -> str:
    """Return the SHA-256 of a tokenizer's vocabulary with its ids, its special tokens and its rules, in hexadecimal.

    The rules, such as whether upper case counts, are known by the ids of a few texts: their form in files differs
    between versions of the tokenizers library.

    Args:
        tokenizer: as ``load_tokenizer`` returns it.
    """
    vocabulary = sorted(tokenizer.get_vocab().items())
    special = sorted(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    rules = [tokenizer.truncation_side, tokenizer(list(PROBES), verbose=False)["input_ids"]]
    return hashlib.sha256(json.dumps([vocabulary, special, rules]).encode()).hexdigest()


def states_in(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the state of the tokenizer in a whole checkpoint; none if its training was not on texts."""
    return [entry[TOKENIZER] for entry in checkpoint.values() if isinstance(entry, dict) and TOKENIZER in entry]


def words_digest(words: Sequence[str]) -> str:
    """Return the SHA-256 of a list of words in their order, by which a file of word vectors is known."""
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()


def _sound(where: str, reason: str) -> str:
    if Path(where).is_dir():
        return (
            f"a folder with the sound files of a tokenizer ({FILES[0]} and those beside it); transformers cannot read "
            f"these: {reason:.300} - fetch them again"
        )
    return (
        f"a folder with tokenizer.json, or a model of the Hugging Face Hub; transformers says: {reason:.300} - without "
        f"a network, fetch it elsewhere by `hf download {where} --local-dir FOLDER` and give that folder"
    )


def _existing(name: str) -> str:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith(("/", ".", "~")):
            raise SettingError("name_or_path", name, "a folder with tokenizer.json; there is no such folder")
        return name
    if not any((folder / file).is_file() for file in FILES):
        there = ", ".join(sorted(each.name for each in folder.iterdir())[:5]) or "nothing"
        raise SettingError("name_or_path", name, f"a folder with the files of a tokenizer ({FILES[0]}); it has {there}")
    if _wants_code(folder):
        raise SettingError("name_or_path", name, NO_CODE)
    return str(folder)


def _wants_code(folder: Path) -> bool:
    for file in ("tokenizer_config.json", "config.json"):
        try:
            settings = json.loads((folder / file).read_text(encoding="utf-8"))
            if "AutoTokenizer" in (settings.get("auto_map") or {}):
                return True
        except (OSError, ValueError, AttributeError):  # no such file; transformers judges a damaged one
            continue
    return False
