"""The base class of pretrained networks: their own preprocessing, which parts are trained, and what results say."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from metalit.errors import UserError
from metalit.networks.partly_trained import PartlyTrained
from metalit.networks.pretrained.freezing import Trained, freeze, resting, trained_parts
from metalit.networks.pretrained.preprocessing import PretrainedInput

BackboneBatchNorm = Literal["frozen", "running"]


class PretrainedNetwork(PartlyTrained, ABC):
    """An encoder with weights from elsewhere. It takes images in [0, 1] of any size and returns embeddings.

    Frozen parts require no gradient and stay in evaluation mode when the network is put into training mode.

    Args:
        encoder: the network as its library makes it.
        preprocessing: its first step.
        trained: ``none`` freezes everything; N trains the last N blocks and what follows them; ``all`` trains
            everything.
        blocks: dotted names of the blocks; see ``find_blocks``.
        batch_norm: ``frozen``: the batch norms of trained parts keep normalising by the running statistics of the
            weights file, and train scale and shift only; ``running``: they use and update batch statistics in training.
        pretrained_on: what the weights were trained on, in words, for the results.

    Attributes:
        features: D, length of an embedding.

    Shape:
        ``[n, channels, height, width]`` to ``[n, D]``.
    """

    features: int

    def __init__(
        self,
        encoder: nn.Module,
        preprocessing: PretrainedInput,
        trained: Trained = "none",
        blocks: Sequence[str] = (),
        batch_norm: BackboneBatchNorm = "frozen",
        pretrained_on: str | None = None,
    ) -> None:
        super().__init__()
        self.preprocessing, self.encoder = preprocessing, encoder
        self.trained, self.batch_norm, self.pretrained_on = trained, batch_norm, pretrained_on
        parts = trained_parts(encoder, trained, blocks)
        freeze(encoder, parts)
        self.resting = resting(encoder, parts, batch_norm == "frozen")
        self.train()

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` of preprocessed images."""

    @abstractmethod
    def source(self) -> dict[str, Any]:
        """Return which network and which weights these are, for results and for the key of cached features."""

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` of images ``[n, channels, height, width]`` in [0, 1]."""
        return self.encode(self.preprocessing(x))

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
            **self.source(),
            "backbone_input": self.preprocessing.described(),
            "backbone_trained": trained,
            **({} if self.trained == "none" else {"backbone_batch_norm": self.batch_norm}),
            "pretrained_on": self.pretrained_on or "not stated",
        }

    @torch.no_grad()
    def measure(self, image_size: tuple[int, int]) -> int:
        """Return D, from one image of zeros, and check that embeddings are vectors."""
        channels = len(self.preprocessing.mean)
        mode = self.training
        dtype = next((each.dtype for each in self.encoder.parameters()), torch.get_default_dtype())
        embedding = self.eval()(torch.zeros(1, channels, *image_size, dtype=dtype))
        self.train(mode)
        return int(embedding.shape[1])


Pool = Literal["mean", "first", "flatten"]


def pooled(output: Any, pool: Pool, name: str) -> Tensor:
    """Return embeddings ``[n, D]``.

    Args:
        output: ``[n, D]``, returned as it is; feature maps ``[n, D, height, width]``; or tokens ``[n, length, D]``.
        pool: ``mean`` over space or tokens; ``first`` of the tokens, or position; ``flatten`` all.
        name: what the output is of, for the message.

    Raises:
        UserError: the output is something else.
    """
    if not isinstance(output, Tensor) or output.dim() not in (2, 3, 4):
        found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"{name} returns {found}, expected a tensor [n, D], [n, D, height, width] or [n, length, D]")
    if output.dim() == 2:
        return output
    if pool == "flatten":
        return output.flatten(1)
    rows = output.flatten(2).mT if output.dim() == 4 else output  # [n, positions, D]
    return rows[:, 0] if pool == "first" else rows.mean(dim=1)
