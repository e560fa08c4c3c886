"""Wide residual networks (Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146), such as WRN-28-10."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.networks.expected_inputs import check_images
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d
from metalit.networks.resnet12 import initialise


class WRN2810(nn.Module):
    """WRN-28-10, the encoder of LEO (Rusu et al. 2019) and S2M2 (Mangla et al. 2020), with 36.5 million parameters.

    A convolution of 16 filters is followed by three groups of four residual blocks with 160, 320 and 640 filters; the
    second and third group halve height and width. Each block normalises and applies ReLU before its two 3x3
    convolutions. The last feature maps are averaged over space. Images are taken as they are.

    Args:
        in_channels: channels of the images.
        image_size: height and width of the images, in pixels, at least 4; 80 in LEO and S2M2.
        drop_rate: dropout between the two convolutions of a block, in [0, 1).
        depth: number of convolutions along the longest path, 4 more than a multiple of 6.
        width: how many times as many filters as the narrowest network of this kind, which has 16, 32 and 64.
        batch_norm: which statistics normalise (``batch``, ``running``, ``renorm`` or ``none``), see ``batch_norm_2d``;
            if not given, the method chooses.
        channels_last: use the channels-last memory format; results are the same.

    Attributes:
        features: length of an embedding, 640 by default.

    Shape:
        ``[n, in_channels, image_size, image_size]`` to ``[n, features]``.

    Raises:
        SettingError: a number is out of range, or images do not match ``in_channels`` and ``image_size``.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 84,
        drop_rate: float = 0.0,
        depth: int = 28,
        width: int = 10,
        batch_norm: BatchNormMode | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, in_channels=in_channels, width=width)
        at_least(4, image_size=image_size)
        check("drop_rate", drop_rate, 0 <= drop_rate < 1, "a number in [0, 1)")
        check("depth", depth, depth >= 10 and depth % 6 == 4, "4 more than a multiple of 6, such as 10, 16, 22 or 28")
        self.in_channels, self.image_size = in_channels, image_size
        self.features = 64 * width
        # of the longest path, 4 convolutions are not in blocks: the first, and by the paper's count 3 shortcuts
        blocks = (depth - 4) // 6
        self.first = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        sizes = [16] + [size * width for size in (16, 32, 64) for _ in range(blocks)]
        self.blocks = nn.Sequential(
            *(
                WideBlock(before, after, 2 if i in (blocks, 2 * blocks) else 1, drop_rate, batch_norm)
                for i, (before, after) in enumerate(pairwise(sizes))
            )
        )
        self.last = nn.Sequential(batch_norm_2d(self.features, batch_norm), nn.ReLU())
        initialise(self)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, features]``."""
        check_images(self, x, self.in_channels, self.image_size)
        return self.last(self.blocks(self.first(x))).mean(dim=(2, 3))  # type: ignore[no-any-return]


class WideBlock(nn.Module):
    """A residual block that normalises first; with another number of channels, a 1x1 convolution is its shortcut.

    Args:
        inputs: channels of the inputs.
        outputs: channels of the outputs.
        stride: 2 halves height and width.
        drop_rate: of the dropout between the two convolutions.
        batch_norm: see ``batch_norm_2d``.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, drop_rate: float, batch_norm: BatchNormMode | None
    ) -> None:
        super().__init__()
        self.before = nn.Sequential(batch_norm_2d(inputs, batch_norm), nn.ReLU())
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            batch_norm_2d(outputs, batch_norm),
            nn.ReLU(),
            nn.Dropout(drop_rate),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps, of half the height and width with stride 2."""
        active = self.before(x)
        # the shortcut of the same size carries the inputs themselves
        return self.path(active) + (x if self.shortcut is None else self.shortcut(active))  # type: ignore[no-any-return]
