"""The base class of pretrained networks: which parts are trained, and what results say."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Self

from torch import nn

from metalit.networks.partly_trained import PartlyTrained
from metalit.networks.pretrained.freezing import Trained, freeze, resting, trained_parts

BackboneBatchNorm = Literal["frozen", "running"]


class PretrainedNetwork(PartlyTrained, ABC):
    """An encoder with weights from elsewhere, of images or texts.

    Frozen parts require no gradient and stay in evaluation mode when the network is put into training mode.

    Args:
        encoder: the network as its library makes it.
        trained: ``none`` freezes everything; N trains the last N blocks and what follows them; ``all`` trains
            everything.
        blocks: dotted names of the blocks; see ``find_blocks``.
        batch_norm: ``frozen``: the batch norms of trained parts keep normalising by the running statistics of the
            weights file, and train scale and shift only; ``running``: they use and update batch statistics in training.
        pretrained_on: what the weights were trained on, in words, for the results.

    Attributes:
        features: D, length of an embedding.

    Shape:
        inputs ``[n, ...]`` to ``[n, D]``.
    """

    features: int

    def __init__(
        self,
        encoder: nn.Module,
        trained: Trained = "none",
        blocks: Sequence[str] = (),
        batch_norm: BackboneBatchNorm = "frozen",
        pretrained_on: str | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.trained, self.batch_norm, self.pretrained_on = trained, batch_norm, pretrained_on
        parts = trained_parts(encoder, trained, blocks)
        freeze(encoder, parts)
        self.resting = resting(encoder, parts, batch_norm == "frozen")
        self.train()

    @abstractmethod
    def source(self) -> dict[str, Any]:
        """Return which network and which weights these are, for results and for the key of cached features."""

    @abstractmethod
    def input_setting(self) -> dict[str, Any]:
        """Return what becomes of inputs before the network sees them, as results state it."""

    @property
    def frozen(self) -> bool:
        """Whether nothing is trained."""
        return not any(parameter.requires_grad for parameter in self.parameters())

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts except frozen ones, which stay in evaluation mode."""
        super().train(mode)
        for name in self.resting:
            self.encoder.get_submodule(name).training = False
        return self

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a result."""
        trained = f"last {self.trained} blocks" if isinstance(self.trained, int) else self.trained
        return {
            "encoder": type(self).__name__,
            **self.source(),
            **self.input_setting(),
            "backbone_trained": trained,
            **({} if self.trained == "none" else {"backbone_batch_norm": self.batch_norm}),
            "pretrained_on": self.pretrained_on or "not stated",
        }
