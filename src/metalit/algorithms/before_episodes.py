"""What a learner asks of its data module before the first episode: training inputs, and whether texts fit."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils._pytree import tree_map

from metalit.functional.examples import to_unit_interval
from metalit.networks.texts.base import check_form, text_encoders
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
    if text_encoders(learner) and isinstance(data, HasForm):
        check_form(learner, data.example_form())
