"""Four-block convolutional classifier that context parameters modulate by FiLM (Perez et al. 2018)."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.networks.expected_inputs import check_images
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d

FILM_BLOCK = 2  # the third


class FiLMConv4(nn.Module):
    """Four blocks of 3x3 convolution, batch normalisation, 2x2 max-pooling and ReLU, and a linear head.

    Before the ReLU of the third block channel c becomes ``scale_c * map_c + shift_c``. Scales and shifts are a linear
    function of the context parameters whose biases begin at 1 and 0, so that with a context of zero a new network is
    ``Classifier(Conv4(...))``; its weights do not begin at zero, else the context would have no gradient.

    Args:
        channels: filters of each block.
        in_channels: channels of the images.
        image_size: height and width of the images, in pixels, at least 16.
        ways: N, outputs of the head; on the command line it follows ``data.ways``.
        context_size: number of context parameters; 100 in Zintgraf et al. 2019.
        batch_norm: which statistics normalise, see ``batch_norm_2d``.

    Attributes:
        context_size: the same.

    Shape:
        images ``[n, in_channels, image_size, image_size]`` and context parameters ``[context_size]`` to ``[n, N]``.

    Raises:
        ValueError: a number below 1, images too small for four halvings, or images that are not as announced.
    """

    def __init__(
        self,
        channels: int = 64,
        in_channels: int = 1,
        image_size: int = 28,
        ways: int = 5,
        context_size: int = 100,
        batch_norm: BatchNormMode = "batch",
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, in_channels=in_channels, ways=ways, context_size=context_size)
        check("image_size", image_size, image_size >= 16, "at least 16, for FiLMConv4 halves images four times")
        self.expected, self.context_size = (in_channels, image_size), context_size
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=1),
                batch_norm_2d(channels, batch_norm),
                nn.MaxPool2d(2),
            )
            for i in range(4)
        )
        self.film = nn.Linear(context_size, 2 * channels)
        with torch.no_grad():
            self.film.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))
        self.head = nn.Linear(channels * (image_size // 16) ** 2, ways)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return logits."""
        check_images(self, x, *self.expected)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == FILM_BLOCK:
                scale, shift = self.film(context)[:, None, None].chunk(2)
                x = scale * x + shift
            x = x.relu()
        return self.head(x.flatten(1))  # type: ignore[no-any-return]
