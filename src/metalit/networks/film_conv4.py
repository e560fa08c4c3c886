"""A four-block convolutional classifier that context parameters modulate by FiLM (Perez et al. 2018)."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.networks.expected_inputs import check_images
from metalit.networks.normalisation import BatchNormMode, batch_norm_2d

FILM_BLOCK = 2  # the third block, as in the authors' code of CAVIA


class FiLMConv4(nn.Module):
    """Four blocks of 3x3 convolution, batch normalisation, 2x2 max-pooling and ReLU, with FiLM and a linear head.

    Before the ReLU of the third block, FiLM replaces channel c by ``scale_c * map_c + shift_c``. Scales and shifts are
    a linear function of the context parameters. Its biases start at 1 and 0, so a new network with a context of zero
    is ``Classifier(Conv4(...))``; its weights do not start at zero, since the context would then have no gradient.

    Args:
        channels: filters of each block.
        in_channels: channels of the images.
        image_size: height and width of the images, in pixels, at least 16.
        ways: N, outputs of the head; on the command line it follows ``data.ways``.
        context_size: number of context parameters; 100 in Zintgraf et al. 2019.
        batch_norm: which statistics normalise (``batch``, ``running``, ``renorm`` or ``none``), see ``batch_norm_2d``.

    Attributes:
        context_size: number of context parameters.

    Shape:
        images ``[n, in_channels, image_size, image_size]`` and context parameters ``[context_size]`` to ``[n, N]``.

    Raises:
        SettingError: a number is below 1, ``image_size`` is too small for four halvings, or images do not match
            ``in_channels`` and ``image_size``.
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
        # the identity at a context of zero; in the authors' code the scales start near zero
        with torch.no_grad():
            self.film.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))
        self.head = nn.Linear(channels * (image_size // 16) ** 2, ways)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return logits ``[n, N]``."""
        check_images(self, x, *self.expected)
        for i, block in enumerate(self.blocks):
            # ReLU comes last, not within the block as in Conv4, because FiLM acts before it
            x = block(x)
            if i == FILM_BLOCK:
                scale, shift = self.film(context)[:, None, None].chunk(2)
                x = scale * x + shift
            x = x.relu()
        return self.head(x.flatten(1))  # type: ignore[no-any-return]
