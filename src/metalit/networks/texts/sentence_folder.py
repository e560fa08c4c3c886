"""What a folder of sentence-transformers says about pooling: modules.json and 1_Pooling/config.json."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from metalit.errors import UserError

POOLS: dict[str, Literal["mean", "first", "last"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}


@dataclass(frozen=True)
class SentenceFolder:
    """How a model's hidden states become an embedding.

    Attributes:
        pool: its pooling; None if the folder does not say it.
        normalise: whether embeddings are scaled to length 1.
        unsupported: what else the folder asks for, in words; None if nothing.
    """

    pool: Literal["mean", "first", "last"] | None = None
    normalise: bool = False
    unsupported: str | None = None


def read_sentence_folder(where: str, revision: str | None) -> SentenceFolder:
    """Return what a folder, or a model of the Hub, says about pooling; nothing if it is not of sentence-transformers.

    Raises:
        UserError: a file of it is damaged.
    """
    modules = read_json(where, "modules.json", revision)
    if modules is None:
        return SentenceFolder()
    if not (isinstance(modules, list) and all(isinstance(each, dict) for each in modules)):
        raise UserError(f"modules.json of {where} is no list of modules, as sentence-transformers writes it")
    pool: Literal["mean", "first", "last"] | None = None
    normalise, unsupported = False, None
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            pool, unsupported = pooling(read_json(where, f"{module.get('path', '1_Pooling')}/config.json", revision))
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            unsupported = f"a layer {kind}"
    return SentenceFolder(pool, normalise, unsupported)


def pooling(config: Any) -> tuple[Literal["mean", "first", "last"] | None, str | None]:
    """Return the pooling that a config names, and in words what of it is not supported."""
    settings = config if isinstance(config, dict) else {}
    chosen = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True]
    if len(chosen) == 1 and chosen[0] in POOLS:
        return POOLS[chosen[0]], None
    return None, f"the pooling {', '.join(chosen) or 'of another form'}"


def found_file(where: str, file: str, revision: str | None) -> Path | None:
    """Return a file of a folder, or of a model of the Hub or its cache; None if there is none."""
    if Path(where).is_dir():
        found: str | None = str(Path(where) / file)
    else:
        try:
            found = import_module("transformers.utils").cached_file(where, file, revision=revision or "main")
        except OSError:  # the model has no such file, or there is no network
            found = None
    return None if found is None or not Path(found).is_file() else Path(found)


def read_json(where: str, file: str, revision: str | None) -> Any:
    """Return the content of a JSON file of a folder, or of a model of the Hub or its cache; None if there is none.

    Raises:
        UserError: it is damaged.
    """
    found = found_file(where, file, revision)
    if found is None:
        return None
    try:
        return json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{found} is not JSON ({error})") from error
