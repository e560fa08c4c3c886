"""The base class of pretrained encoders of images: their preprocessing, and pooling of what their libraries return."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from metalit.errors import UserError
from metalit.networks.pretrained.base import BackboneBatchNorm, PretrainedNetwork
from metalit.networks.pretrained.freezing import Trained
from metalit.networks.pretrained.preprocessing import PretrainedInput


class PretrainedImageNetwork(PretrainedNetwork, ABC):
    """An encoder with weights from elsewhere. It takes images in [0, 1] of any size and returns embeddings.

    Args:
        encoder: the network as its library makes it.
        preprocessing: its first step.
        trained: as in ``PretrainedNetwork``.
        blocks: as in ``PretrainedNetwork``.
        batch_norm: as in ``PretrainedNetwork``.
        pretrained_on: as in ``PretrainedNetwork``.

    Shape:
        ``[n, channels, height, width]`` to ``[n, D]``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        preprocessing: PretrainedInput,
        trained: Trained = "none",
        blocks: Sequence[str] = (),
        batch_norm: BackboneBatchNorm = "frozen",
        pretrained_on: str | None = None,
    ) -> None:
        super().__init__(encoder, trained, blocks, batch_norm, pretrained_on)
        self.preprocessing = preprocessing

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` of preprocessed images."""

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` of images ``[n, channels, height, width]`` in [0, 1]."""
        return self.encode(self.preprocessing(x))

    def input_setting(self) -> dict[str, Any]:
        """Return the preprocessing."""
        return {"backbone_input": self.preprocessing.described()}

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
