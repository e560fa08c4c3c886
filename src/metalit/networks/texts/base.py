"""What all encoders of texts have in common."""

from typing import Any, Protocol, runtime_checkable

from torch import nn

from metalit.errors import SettingError
from metalit.networks.partly_trained import StatesSetting
from metalit.networks.texts.pooling import TextPool


class TextEncoder(StatesSetting):
    """An encoder from tokens ``[n, T]`` to embeddings ``[n, features]``, which padding does not change.

    Attributes:
        features: length of an embedding.
        vocabulary: number of token ids.
        max_length: most tokens of a text; None if there is no limit.
        tokenizer_digest: what tells the only tokenizer whose ids it takes from others; None if it takes any.
        tokenizer: that tokenizer as a config has it, for messages.
        pool: what becomes of the hidden states; ``marks`` needs texts with two marked places.
    """

    features: int
    vocabulary: int
    max_length: int | None = None
    tokenizer_digest: str | None = None
    tokenizer: str = ""
    pool: TextPool = "mean"


def text_encoders(network: nn.Module) -> list[TextEncoder]:
    """Return the encoders of texts in a network."""
    return [module for module in network.modules() if isinstance(module, TextEncoder)]


@runtime_checkable
class FormOfTexts(Protocol):
    """The form of texts.

    Attributes:
        tokenizer: has a ``digest`` and the number of ids, ``size``.
        max_length: most tokens of a text.
        marked: whether each text has two marked places.
    """

    tokenizer: Any
    max_length: int
    marked: bool


def check_form(network: nn.Module, form: object) -> None:
    """Refuse texts that mean something else to an encoder in a network, or that it has no embedding for.

    Args:
        network: a network with encoders of texts in it, or none.
        form: the form of the examples; anything but a form of texts is left to the network.

    Raises:
        SettingError: the tokenizer is another one or has more ids than the encoder, or the texts are too long or lack
            marks.
    """
    if not isinstance(form, FormOfTexts):
        return
    for encoder in text_encoders(network):
        kind, name = type(encoder).__name__, type(form.tokenizer).__name__
        if encoder.tokenizer_digest is not None and encoder.tokenizer_digest != form.tokenizer.digest:
            expected = f"the tokenizer whose ids networks.{kind} was trained with; give data.tokenizer: "
            raise SettingError("data.tokenizer", name, expected + encoder.tokenizer)
        if form.tokenizer.size > encoder.vocabulary:
            expected = f"at least {form.tokenizer.size}, the number of ids of data.tokenizer ({name})"
            raise SettingError("vocabulary", encoder.vocabulary, expected, owner=type(encoder))
        if encoder.max_length is not None and form.max_length > encoder.max_length:
            expected = f"at most {encoder.max_length}, the longest text that networks.{kind} takes"
            raise SettingError("data.max_length", form.max_length, expected)
        if encoder.pool == "marks" and not form.marked:
            expected = "mean, first or last: these texts have no two marked places"
            raise SettingError("pool", encoder.pool, expected, owner=type(encoder))
