"""A convolutional classifier whose layers have a slow path and a fast one (Munkhdalai and Yu 2017)."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.expected_inputs import check_images


class AugmentedConvNet(nn.Module):
    """Blocks of 3x3 convolution, ReLU and 2x2 max-pooling, a hidden linear layer, and a head; no biases, no norms.

    Every layer's output is that of its own, slow weights W plus that of the fast weights W* that it may be given:
    relu(W x) + relu(W* x), and W x + W* x at the head.

    Args:
        channels: filters of each block, and width of the hidden layer; >= 1.
        blocks: how many, >= 1; five bring 28 pixels down to one.
        in_channels: channels of the images, >= 1.
        image_size: height and width of the images, in pixels, >= 1.
        ways: N, outputs of the head; on the command line it follows ``data.ways``.

    Shape:
        images ``[n, in_channels, image_size, image_size]`` to the hidden layer before its ReLU, ``[n, channels]``, and
        logits ``[n, N]``.

    Raises:
        ValueError: a number below 1, or images that are not as announced.
    """

    def __init__(
        self, channels: int = 64, blocks: int = 5, in_channels: int = 1, image_size: int = 28, ways: int = 5
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, blocks=blocks, in_channels=in_channels, image_size=image_size, ways=ways)
        self.expected = (in_channels, image_size)
        self.ways = ways
        self.convolutions = nn.ModuleList(
            nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=1, bias=False) for i in range(blocks)
        )
        for _ in range(blocks):
            image_size = -(-image_size // 2)
        self.hidden = nn.Linear(channels * image_size**2, channels, bias=False)
        self.head = nn.Linear(channels, ways, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, by He's rule: without norms, torch's smaller ones would lose the signal."""
        for weight in self.parameters():
            nn.init.kaiming_normal_(weight, nonlinearity="relu")

    def forward(self, x: Tensor, fast: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return the hidden layer, and logits.

        Args:
            x: images.
            fast: fast weights by the name of the parameter they stand beside; layers without take the slow path only.
        """
        check_images(self, x, *self.expected)
        fast = {} if fast is None else fast
        for i, convolution in enumerate(self.convolutions):
            out = convolution(x).relu()
            if (weight := fast.get(f"convolutions.{i}.weight")) is not None:
                out = out + F.conv2d(x, weight, padding=1).relu()
            x = F.max_pool2d(out, 2, ceil_mode=True)
        x = x.flatten(1)
        key, out = self.hidden(x), self.hidden(x).relu()
        if (weight := fast.get("hidden.weight")) is not None:
            key, out = key + x @ weight.T, out + (x @ weight.T).relu()
        logits = self.head(out)
        if (weight := fast.get("head.weight")) is not None:
            logits = logits + out @ weight.T
        return key, logits
