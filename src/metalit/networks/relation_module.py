"""The relation module of relation networks, which scores a pair of feature maps (Sung et al. 2018)."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.conv_layers import ConvLayers
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d


class RelationModule(nn.Module):
    """Two blocks of 3x3 convolution, batch normalisation, ReLU and 2x2 max-pooling, and two linear layers.

    Args:
        channels: C, channels of the feature maps of either side, and filters of each block.
        size: height and width of the feature maps, at least 4.
        hidden: width of the first linear layer.
        batch_norm: which statistics normalise (``batch``, ``running``, ``renorm`` or ``none``), see ``batch_norm_2d``;
            a batch is all pairs of a task. If not given, the method chooses.
        channels_last: use the channels-last memory format; results are the same.

    Shape:
        ``[n, 2 * channels, size, size]`` to relation logits ``[n]``.

    Raises:
        SettingError: a number is below its minimum.
    """

    def __init__(
        self,
        channels: int = 64,
        size: int = 5,
        hidden: int = 8,
        batch_norm: BatchNormMode | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, hidden=hidden)
        at_least(4, size=size)
        self.blocks = nn.Sequential(
            *(
                ConvLayers(
                    # padded, which the authors omit for larger images than Omniglot's
                    nn.Conv2d(inputs, channels, 3, padding=1),
                    batch_norm_2d(channels, batch_norm),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
                for inputs in (2 * channels, channels)
            )
        )
        self.head = nn.Sequential(nn.Linear(channels * (size // 4) ** 2, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pairs: Tensor) -> Tensor:
        """Return relation logits ``[n]``."""
        # without the paper's sigmoid, which the loss applies; predictions are the logits, whose order is the same
        return self.head(self.blocks(pairs).flatten(1)).squeeze(-1)  # type: ignore[no-any-return]
