"""What a learner asks of its data module before the first episode: training inputs, and whether texts fit."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils._pytree import tree_map

from metalit.errors import SettingError
from metalit.functional.examples import to_unit_interval
from metalit.networks.texts.base import text_encoders
from metalit.networks.training_inputs import observers

AT_ONCE = 256  # examples handed over at once


@runtime_checkable
class TrainingStore(Protocol):
    """A data module that holds all examples of a split in a store.

    Attributes:
        stores: each ``ClassStore`` that has been needed so far, by split.
    """

    stores: Mapping[Any, Any]

    def episodes(self, split: Any, first: int = 0, count: int = 1) -> Any:
        """Return episodes of a split, whose store is there afterwards."""
        ...


@runtime_checkable
class HasForm(Protocol):
    """A data module that knows how an example of the user's own becomes one of its own."""

    def example_form(self) -> Any:
        """Return the form of the examples."""
        ...


@runtime_checkable
class FormOfTexts(Protocol):
    """The form of texts.

    Attributes:
        tokenizer: has a ``digest`` and the number of ids, ``size``.
        max_length: most tokens of a text.
    """

    tokenizer: Any
    max_length: int


def training_inputs(data: TrainingStore, device: torch.device) -> Iterator[Any]:
    """Yield all inputs of the training split, ``[n, ...]`` on a device; images in [0, 1]."""
    data.episodes("train")
    store = data.stores["train"]
    for rows in torch.split(torch.arange(int(store.class_sizes.sum())), AT_ONCE):
        yield to_unit_interval(tree_map(lambda leaf: leaf.to(device), store.take(rows)))


def observe_training_inputs(learner: nn.Module, data: object, device: torch.device) -> None:
    """Hand all training inputs to the parts of a learner whose statistics of them are missing.

    A data module without a store has none to give; a network that needs them then says so itself.
    """
    missing = observers(learner)
    if missing and isinstance(data, TrainingStore):
        for part in missing:
            part.observe(training_inputs(data, device))


def check_texts(learner: nn.Module, data: object) -> None:
    """Refuse a tokenizer whose ids mean something else to an encoder of texts, or that it has no embedding for.

    Raises:
        SettingError: the tokenizer is another one, has more ids than the encoder, or its texts are too long.
    """
    encoders = text_encoders(learner)
    form = data.example_form() if encoders and isinstance(data, HasForm) else None
    if not isinstance(form, FormOfTexts):
        return
    for encoder in encoders:
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
