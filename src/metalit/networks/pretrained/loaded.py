"""What a library of pretrained models hands over."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from metalit.networks.pretrained.preprocessing import PretrainedInput


@dataclass(frozen=True)
class Loaded:
    """A model with what is needed to use it.

    Attributes:
        model: takes preprocessed images.
        preprocessing: the model's own.
        source: the model's configuration, for the key of cached features.
        revision: the commit of its files, if known.
        arguments: of every call, besides the images.
        has_pooled: whether the file has the weights of its pooled output.
        has_class_token: whether its first token stands for the whole image.
    """

    model: nn.Module
    preprocessing: PretrainedInput
    source: str
    revision: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    has_pooled: bool = True
    has_class_token: bool = False
