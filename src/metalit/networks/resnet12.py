"""ResNet-12, the residual encoder of most few-shot papers since 2018."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.networks.conv_layers import ConvLayers
from metalit.networks.drop_block import DropBlock
from metalit.networks.expected_inputs import check_images
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d

SLOPE = 0.1  # of LeakyReLU below 0


class ResNet12(nn.Module):
    """Four residual blocks of three 3x3 convolutions, each halving height and width (Lee et al. 2019, section 4.1).

    A block is three times convolution, batch normalisation and LeakyReLU, with a 1x1 convolution as its shortcut; then
    2x2 max-pooling and DropBlock. The first two blocks drop single values (squares of 1), the last two squares of
    ``block_size``, all at the same rate. Images are taken as they are: subtracting a mean and dividing by a standard
    deviation would change little, for the first convolution is followed by batch normalisation.

    Args:
        channels: filters of the four blocks: 64, 160, 320, 640 of MetaOptNet (Lee et al. 2019), the default, has
            12.4 million parameters; 64, 128, 256, 512 of TADAM (Oreshkin et al. 2018) has 8.0 million.
        in_channels: channels of the images.
        image_size: height and width of the images, in pixels, at least 16.
        output: ``average`` averages the last feature maps over space; ``flatten`` returns all of their values, as
            MetaOptNet does (16000 of them for images of 84 pixels).
        drop_rate: share of values that DropBlock drops in training, in [0, 1); 0.1 in MetaOptNet.
        block_size: height and width of the squares that DropBlock drops in the last two blocks; in MetaOptNet 5 for
            images of 84 pixels and 2 for those of 32.
        batch_norm: which statistics normalise (``batch``, ``running``, ``renorm`` or ``none``), see ``batch_norm_2d``;
            if not given, the method chooses.
        channels_last: use the channels-last memory format; results are the same.

    Attributes:
        features: length of an embedding.

    Shape:
        ``[n, in_channels, image_size, image_size]`` to ``[n, features]``.

    Raises:
        SettingError: not four numbers of channels, a number out of range, or images that do not match ``in_channels``
            and ``image_size``.

    Differences from the authors' code (https://github.com/kjunelee/MetaOptNet, models/ResNet12_embedding.py):
        The rate of DropBlock is constant, as the paper states it. Their code raises it linearly over the first 40 000
        forward passes; on several GPUs the count of passes is lost and the rate stays near 0 (its issue 41). Here a
        count would depend on how tasks are computed, for a task may take several passes. Their first two blocks use
        plain dropout, which differs from DropBlock with squares of 1 in the scale only: by the expected share of
        values in place of the counted one.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 160, 320, 640),
        in_channels: int = 3,
        image_size: int = 84,
        output: Literal["average", "flatten"] = "average",
        drop_rate: float = 0.1,
        block_size: int = 5,
        batch_norm: BatchNormMode | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        check("channels", list(channels), len(channels) == 4, "four numbers, one for each block")
        at_least(1, channels=min(channels), in_channels=in_channels)
        check("image_size", image_size, image_size >= 16, "at least 16, for ResNet12 halves images four times")
        self.in_channels, self.image_size, self.average = in_channels, image_size, output == "average"
        # DropBlock(0.9, 1) twice, then DropBlock(0.9, block_size) twice, in the paper's notation with its keep rate
        sizes = (1, 1, block_size, block_size)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(before, after, batch_norm, DropBlock(drop_rate, size))
                for before, after, size in zip((in_channels, *channels), channels, sizes, strict=False)
            )
        )
        initialise(self)
        if channels_last:  # of the weights; the feature maps follow
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # pooling drops an odd last row and column, so four halvings leave image_size // 16
        self.features = channels[-1] * (1 if self.average else (image_size // 16) ** 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, features]``."""
        check_images(self, x, self.in_channels, self.image_size)
        maps: Tensor = self.blocks(x)
        return maps.mean(dim=(2, 3)) if self.average else maps.flatten(1)


class ResidualBlock(nn.Module):
    """Three convolutions beside a 1x1 convolution, then pooling and DropBlock.

    Args:
        inputs: channels of the inputs.
        outputs: channels of the outputs.
        batch_norm: see ``batch_norm_2d``.
        drop: applied last.
    """

    def __init__(self, inputs: int, outputs: int, batch_norm: BatchNormMode | None, drop: DropBlock) -> None:
        super().__init__()
        self.path = ConvLayers(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), batch_norm_2d(outputs, batch_norm),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), batch_norm_2d(outputs, batch_norm),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), batch_norm_2d(outputs, batch_norm),
        )  # fmt: skip
        self.shortcut = ConvLayers(nn.Conv2d(inputs, outputs, 1, bias=False), batch_norm_2d(outputs, batch_norm))
        self.end = nn.Sequential(nn.LeakyReLU(SLOPE), nn.MaxPool2d(2), drop)

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of half the height and width."""
        return self.end(self.path(x) + self.shortcut(x))  # type: ignore[no-any-return]


def initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions as He et al. 2015 do, by the number of outputs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
