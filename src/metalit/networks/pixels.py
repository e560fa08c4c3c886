"""Pixels as an embedding."""

import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import SettingError, at_least


class Pixels(nn.Module):
    """The pixels of an image, reduced in size by averaging. There are no parameters.

    Args:
        image_size: height and width of the reduced image, in pixels, >= 1; 20 for Omniglot in Santoro et al. 2016.
        in_channels: channels of the images, >= 1.

    Attributes:
        features: length of an embedding, ``in_channels * image_size**2``.

    Shape:
        ``[n, in_channels, height, width]`` to ``[n, features]``.

    Raises:
        SettingError: a number is below 1, or images do not match ``in_channels``.
    """

    def __init__(self, image_size: int = 20, in_channels: int = 1) -> None:
        super().__init__()
        at_least(1, image_size=image_size, in_channels=in_channels)
        self.image_size, self.in_channels = image_size, in_channels
        self.features = in_channels * image_size**2

    def forward(self, x: Tensor) -> Tensor:
        """Return the pixels ``[n, features]``, ordered by channel, then by row."""
        if x.shape[1] != self.in_channels:
            raise SettingError("in_channels", self.in_channels, f"{x.shape[1]}, as the images have", owner=type(self))
        return F.adaptive_avg_pool2d(x, self.image_size).flatten(1)
