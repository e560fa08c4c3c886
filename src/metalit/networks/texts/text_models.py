"""Loading language models by transformers, and finding out how each must be called."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metalit.episode import MarkedTokens, Tokens
from metalit.errors import SettingError
from metalit.networks.pretrained.from_transformers import existing, is_of_pooler, one_message, quiet
from metalit.networks.texts.sentence_folder import SentenceFolder, read_sentence_folder

INSTALL = "pip install 'metalit[text]'"
FILES = "config.json, tokenizer.json and model.safetensors"
PROBED = 6, 12  # tokens of the text by which a model is examined, without and with padding
CLOSE = 1e-3  # relative difference of hidden states by which two ways of masking count as one
ROUNDING = 1e-6


@dataclass(frozen=True)
class TextModel:
    """A language model with what is needed to use it.

    Attributes:
        model: takes ids and an additive mask.
        causal: whether a token sees those before it only, as in a decoder.
        first_position: number of the first token's position, if it must be handed over; None if it need not.
        width: D, length of a hidden state.
        max_length: most tokens of a text; None if there is no limit.
        vocabulary: number of token ids.
        source: the model's configuration, for the key of cached features.
        sentence: what a folder of sentence-transformers does with the hidden states.
    """

    model: nn.Module
    causal: bool
    first_position: int | None
    width: int
    max_length: int | None
    vocabulary: int
    source: str
    sentence: SentenceFolder


def hidden_states(model: nn.Module, x: Tokens | MarkedTokens, causal: bool, first_position: int | None) -> Tensor:
    """Return the last hidden states ``[n, T, D]`` of tokens ``[n, T]``; see ``TextModel``."""
    dtype = next(each.dtype for each in model.parameters())
    arguments = {}
    if first_position is not None:
        places = torch.arange(x.ids.shape[-1], device=x.ids.device) + first_position
        # the number that the model gives to padding
        arguments["position_ids"] = torch.where(x.mask, places, first_position - 1)
    states: Tensor = model(x.ids, attention_mask=attention_mask(x.mask, causal, dtype), **arguments)[0]
    return states


def attention_mask(mask: Tensor, causal: bool, dtype: torch.dtype) -> Tensor:
    """Return what is added to attention scores: 0, or the lowest number for padding and, if ``causal``, later tokens.

    transformers passes on a mask of four axes as it is; one of two axes it inspects, which ``vmap`` forbids.

    Args:
        mask: ``[n, T]`` bool, True where there is a token.
        causal: whether a token sees those before it only.
        dtype: of the model.

    Returns:
        ``[n, 1, 1, T]``, or ``[n, 1, T, T]`` if ``causal``.
    """
    seen = mask[:, None, None, :]
    if causal:
        length = mask.shape[-1]
        seen = seen & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def load_text_model(name: str, revision: str | None) -> TextModel:
    """Return a model of the Hub, of its cache on this machine, or of a folder.

    Raises:
        ImportError: transformers is not installed.
        SettingError: there is no such model, it wants code of its own, or its file lacks weights or is no safetensors
            file; or its hidden states depend on padding.
    """
    transformers = imported()
    where = existing(name)
    refuse_code(where)
    # no code of the Hub, and no pickles: neither may be executed by naming a model
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    with one_message(name, FILES), quiet():
        model, found = transformers.AutoModel.from_pretrained(
            where, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **options
        )
    if getattr(model.config, "auto_map", None):
        raise SettingError("name_or_path", name, NO_CODE)
    missing = sorted(key for key in found["missing_keys"] if not is_of_pooler(key))
    if missing:
        expected = f"a model with all weights; its file lacks {missing[0]}, and {len(missing)} in all"
        raise SettingError("name_or_path", name, expected)
    source = json.dumps(model.config.to_dict(), sort_keys=True, default=str)
    return examined(name, model, source, read_sentence_folder(where, revision))


def made_text_model(name: str, config: dict[str, Any], sentence: dict[str, Any]) -> TextModel:
    """Return a model with weights at random, from the JSON of its configuration.

    Args:
        name: what messages call it.
        config: as ``TextModel.source`` has it.
        sentence: the values of its ``SentenceFolder``.

    Raises:
        ImportError: transformers is not installed.
        SettingError: transformers knows no such configuration, or see ``load_text_model``.
    """
    transformers = imported()
    # who wrote a saved classifier is not known: nothing that names code, or kernels of the Hub
    plain = {key: value for key, value in config.items() if key not in OF_CODE and not key.startswith("_")}
    with one_message(name, FILES), quiet():
        made = transformers.AutoConfig.for_model(**plain)
        model = transformers.AutoModel.from_config(made, dtype=torch.float32, trust_remote_code=False)
    return examined(name, model, json.dumps(config, sort_keys=True), SentenceFolder(**sentence))


def imported() -> Any:
    """Return the package transformers.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module("transformers")
    except ImportError as error:
        raise ImportError(f"networks.PretrainedText needs transformers, which is not installed: {INSTALL}") from error


OF_CODE = ("auto_map", "attn_implementation", "experts_implementation", "quantization_config")
NO_CODE = (
    "a model that needs no code of its own; this one asks for its own code to be executed (auto_map, "
    "trust_remote_code), which metalit does not do"
)


def refuse_code(where: str) -> None:
    """Refuse a folder whose model wants code of its own, before transformers reads it."""
    try:
        config = json.loads((Path(where) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a name of the Hub; or a folder whose config transformers explains
        return
    if isinstance(config, dict) and "AutoModel" in (config.get("auto_map") or {}):
        raise SettingError("name_or_path", where, NO_CODE)


def examined(name: str, model: Any, source: str, sentence: SentenceFolder) -> TextModel:
    """Return a model with how it must be called, found out on a short text.

    Raises:
        SettingError: with the additive mask it computes other hidden states than with its own, or they depend on
            padding.
    """
    model.config.use_cache = False
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # its output is not used, so nothing of it is to be trained
    mode = model.training
    model.eval()
    try:
        first, vocabulary = first_position(model), model.get_input_embeddings().num_embeddings
        short = probe(model, vocabulary)
        with torch.no_grad():
            expected = model(short.ids, attention_mask=short.mask.long())[0]
            causal = is_causal(model, short, expected)
            found = [hidden_states(model, each, causal, first)[:, : PROBED[0]] for each in (short, with_padding(short))]
    # a model of images, or of images and texts, may lack what a model of texts has
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise SettingError("name_or_path", name, f"a model of token ids and a mask; {reason:.200}") from error
    finally:
        model.train(mode)
    scale = expected.abs().max().item()
    if any((each - expected).abs().max().item() > CLOSE * scale for each in found):
        raise SettingError(
            "name_or_path",
            name,
            f"a model that takes an additive mask; the hidden states of this {type(model).__name__} depend on padding",
        )
    return TextModel(model, causal, first, expected.shape[-1], longest(model, first), vocabulary, source, sentence)


def probe(model: Any, vocabulary: int) -> Tokens:
    """Return a text of a few ids, none of them that of padding."""
    padding = getattr(model.config, "pad_token_id", None)
    ids = [number for number in range(min(vocabulary, PROBED[0] + 8)) if number != padding][-PROBED[0] :]
    ids = (ids * PROBED[0])[: PROBED[0]]
    return Tokens(torch.tensor([ids]), torch.ones(1, PROBED[0], dtype=torch.bool))


def with_padding(x: Tokens) -> Tokens:
    """Return the same text with padding behind it."""
    behind = (0, PROBED[1] - PROBED[0])
    return Tokens(nn.functional.pad(x.ids, behind), nn.functional.pad(x.mask, behind))


def is_causal(model: Any, x: Tokens, states: Tensor) -> bool:
    """Return whether the last token of a text leaves the hidden states ``[1, T, D]`` before it as they are."""
    changed = x.ids.clone()
    changed[0, -1] = changed[0, 0]
    other = model(changed, attention_mask=x.mask.long())[0]
    # a network at random hardly reacts to one token, but by more than rounding
    return bool(torch.allclose(other[:, :-1], states[:, :-1], rtol=0, atol=ROUNDING * float(states.abs().max())))


def first_position(model: nn.Module) -> int | None:
    """Return the number of the first position of a model that derives positions from padding, as RoBERTa does."""
    for name, module in model.named_modules():
        # such a model leaves the positions up to that of padding unused
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return None


def longest(model: Any, first: int | None) -> int | None:
    """Return how many tokens a text may have."""
    config = model.config
    positions = getattr(config, "max_position_embeddings", None)
    # beyond the window of local attention, one mask for all layers would be another model
    window = getattr(config, "sliding_window", None)
    limits = [positions - (first or 0)] if isinstance(positions, int) and positions > 0 else []
    limits += [window] if isinstance(window, int) and window > 0 else []
    return min(limits, default=None)
