"""A set-conditioned image generator (Zhang et al. 2018), with layers as in DCGAN (Radford et al. 2016)."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.networks.expected_inputs import check_images
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d
from metalit.tasks.task_context import normal_like


class ImageGenerator(nn.Module):
    """Generates images from noise and the mean features of a set of images.

    Two strided convolutions and a linear layer encode each image of the set. A linear layer and two transposed
    convolutions decode the mean of these features, concatenated with noise.

    Args:
        channels: filters of the hidden convolutions.
        features: length of the description of a set.
        noise: number of standard normal noise variables.
        in_channels: channels of the images.
        image_size: height and width of the images, in pixels, at least 4.
        low: value of the darkest pixel.
        high: value of the brightest pixel.
        batch_norm: which statistics normalise (``batch``, ``running``, ``renorm`` or ``none``), see ``batch_norm_2d``;
            a batch is the images generated at once.

    Shape:
        a set ``[S, in_channels, image_size, image_size]`` and a count n to images ``[n, in_channels, image_size,
        image_size]`` in (low, high). The order of the set does not matter.

    Raises:
        SettingError: a number is below its minimum, ``low`` is not below ``high``, or images do not match
            ``in_channels`` and ``image_size``.
    """

    def __init__(
        self,
        channels: int = 64,
        features: int = 64,
        noise: int = 64,
        in_channels: int = 1,
        image_size: int = 28,
        low: float = 0.0,
        high: float = 1.0,
        batch_norm: BatchNormMode = "batch",
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, features=features, noise=noise, in_channels=in_channels)
        at_least(4, image_size=image_size)
        check("low", low, low < high, f"below high, which is {high}")
        self.expected, self.noise = (in_channels, image_size), noise
        self.low, self.high = low, high
        size = -(-image_size // 4)  # after two halvings, rounded up
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(channels * size**2, features),
        )
        self.maps = (channels, size, size)
        self.to_maps = nn.Linear(features + noise, channels * size**2)
        self.decoder = nn.Sequential(
            batch_norm_2d(channels, batch_norm),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1),
            batch_norm_2d(channels, batch_norm),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, in_channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, images: Tensor, count: int) -> Tensor:
        """Return ``count`` generated images."""
        check_images(self, images, *self.expected)
        description = self.encoder(images).mean(dim=0, keepdim=True).expand(count, -1)
        # drawn by the task's key, so the images do not depend on how tasks are mapped, and a resumed run repeats them
        noise = normal_like(images.new_zeros(count, self.noise)).to(description.dtype)
        maps = self.to_maps(torch.cat([description, noise], dim=1)).reshape(count, *self.maps)
        # two doublings give a multiple of 4 pixels; the surplus is cut off
        size = self.expected[1]
        made = self.decoder(maps)[..., :size, :size]
        return self.low + (self.high - self.low) * made  # type: ignore[no-any-return]
