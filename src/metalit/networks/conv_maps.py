"""A convolutional embedding that keeps its maps (Sung et al. 2018)."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.expected_inputs import check_images
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d


class ConvMaps(nn.Module):
    """Four blocks of 3x3 convolution, batch normalisation and ReLU, of which the first two halve the image.

    The first two convolutions are without padding, the last two with it: an image of 28 pixels becomes maps of 5.

    Args:
        channels: filters of each block.
        in_channels: channels of the images.
        image_size: height and width of the images, in pixels, at least 12.
        batch_norm: which statistics normalise, see ``batch_norm_2d``; if not given, the method chooses.
        channels_last: keep weights, and so maps, channels last in memory. Changes no number.

    Attributes:
        channels: of the maps.
        size: height and width of the maps.
        batch_norm: as given.
        channels_last: as given.

    Shape:
        ``[n, in_channels, image_size, image_size]`` to ``[n, channels, size, size]``.

    Raises:
        ValueError: no channels, images too small, or images that are not as announced.
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
        self.batch_norm, self.channels_last = batch_norm, channels_last
        self.size = ((image_size - 2) // 2 - 2) // 2
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
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
        """Return the maps."""
        check_images(self, x, *self.expected)
        return self.blocks(x)  # type: ignore[no-any-return]
