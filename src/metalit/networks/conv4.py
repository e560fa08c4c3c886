"""Conv4, the four-block convolutional encoder of most few-shot papers."""

from typing import Literal

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.networks.conv_layers import ConvLayers
from metalit.networks.expected_inputs import check_images
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d


class Conv4(nn.Module):
    """Four blocks of 3x3 convolution, batch normalisation and ReLU, each halving height and width.

    Args:
        channels: filters of each block; 64 for Omniglot (Vinyals et al. 2016), 32 for MAML on miniImageNet.
        in_channels: channels of the images.
        image_size: height and width of the images, in pixels, at least 16.
        downsample: ``pool`` halves by 2x2 max-pooling and flattens the last feature maps (Vinyals et al. 2016);
            ``stride`` halves by strided convolution and averages the last feature maps over space (MAML's Omniglot
            network, Finn et al. 2017, section 5.2).
        batch_norm: which statistics normalise (``batch``, ``running``, ``renorm`` or ``none``), see ``batch_norm_2d``;
            if not given, the method chooses.
        channels_last: use the channels-last memory format; results are the same. On a CPU, a metric-based method with
            ``pool`` takes about two thirds of the time; a gradient-based one, with weights per task, takes longer.

    Attributes:
        features: length of an embedding.

    Shape:
        ``[n, in_channels, image_size, image_size]`` to ``[n, features]``.

    Raises:
        SettingError: ``channels`` is below 1, ``image_size`` is too small for four halvings, or images do not match
            ``in_channels`` and ``image_size``.
    """

    def __init__(
        self,
        channels: int = 64,
        in_channels: int = 1,
        image_size: int = 28,
        downsample: Literal["pool", "stride"] = "pool",
        batch_norm: BatchNormMode | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, in_channels=in_channels)
        check("image_size", image_size, image_size >= 16, "at least 16, for Conv4 halves images four times")
        self.in_channels, self.image_size = in_channels, image_size
        pool = downsample == "pool"
        self.blocks = nn.Sequential(
            *(
                ConvLayers(
                    nn.Conv2d(in_channels if i == 0 else channels, channels, 3, stride=1 if pool else 2, padding=1),
                    batch_norm_2d(channels, batch_norm),
                    nn.ReLU(),
                    nn.MaxPool2d(2) if pool else nn.Identity(),
                )
                for i in range(4)
            )
        )
        if channels_last:  # of the weights; the feature maps follow
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pool = pool
        # pooling drops an odd last row and column, so four halvings leave image_size // 16
        self.features = channels * (image_size // 16) ** 2 if pool else channels

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, features]``."""
        check_images(self, x, self.in_channels, self.image_size)
        maps: Tensor = self.blocks(x)
        return maps.flatten(1) if self.pool else maps.mean(dim=(2, 3))
