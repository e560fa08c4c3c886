"""The convolutional encoder of relation networks, which returns feature maps (Sung et al. 2018)."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.conv_layers import ConvLayers
from metalit.networks.expected_inputs import check_images
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d


class ConvMaps(nn.Module):
    """Four blocks of 3x3 convolution, batch normalisation and ReLU; the first two also halve height and width.

    The first two convolutions have no padding, the last two do: images of 28 pixels become feature maps of 5.

    Args:
        channels: filters of each block.
        in_channels: channels of the images.
        image_size: height and width of the images, in pixels, at least 12.
        batch_norm: which statistics normalise (``batch``, ``running``, ``renorm`` or ``none``), see ``batch_norm_2d``;
            if not given, the method chooses.
        channels_last: use the channels-last memory format; results are the same.

    Attributes:
        channels: channels of the feature maps.
        size: height and width of the feature maps.
        batch_norm: as given.
        channels_last: as given.

    Shape:
        ``[n, in_channels, image_size, image_size]`` to ``[n, channels, size, size]``.

    Raises:
        SettingError: ``channels`` is below 1, ``image_size`` is too small, or images do not match ``in_channels`` and
            ``image_size``.
    """

    def __init__(
        self,
        channels: int = 64,
        in_channels: int = 1,
        image_size: int = 28,
        batch_norm: BatchNormMode | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, in_channels=in_channels)
        at_least(12, image_size=image_size)
        self.expected, self.channels = (in_channels, image_size), channels
        # RelationNetwork builds a RelationModule of the same form from these
        self.batch_norm, self.channels_last = batch_norm, channels_last
        # twice: two pixels fewer without padding, then halved by pooling
        self.size = ((image_size - 2) // 2 - 2) // 2
        self.blocks = nn.Sequential(
            *(
                ConvLayers(
                    nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=int(i >= 2)),
                    batch_norm_2d(channels, batch_norm),
                    nn.ReLU(),
                    nn.MaxPool2d(2) if i < 2 else nn.Identity(),
                )
                for i in range(4)
            )
        )
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps ``[n, channels, size, size]``."""
        check_images(self, x, *self.expected)
        return self.blocks(x)  # type: ignore[no-any-return]
