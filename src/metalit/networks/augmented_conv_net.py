"""A convolutional classifier with slow and fast weights (Munkhdalai and Yu 2017)."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.expected_inputs import check_images


class AugmentedConvNet(nn.Module):
    """Blocks of 3x3 convolution, ReLU and 2x2 max-pooling, a hidden linear layer and a head, without biases or norms.

    A layer adds the output of its own slow weights W and that of the fast weights W* it may receive:
    relu(W x) + relu(W* x), and W x + W* x at the head.

    Args:
        channels: filters of each block and width of the hidden layer, >= 1.
        blocks: number of blocks, >= 1; five reduce 28 pixels to one.
        in_channels: channels of the images, >= 1.
        image_size: height and width of the images, in pixels, >= 1.
        ways: N, outputs of the head; on the command line it follows ``data.ways``.

    Shape:
        images ``[n, in_channels, image_size, image_size]`` to the hidden layer before its ReLU, ``[n, channels]``, and
        logits ``[n, N]``.

    Raises:
        SettingError: a number is below 1, or images do not match ``in_channels`` and ``image_size``.
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
            image_size = -(-image_size // 2)  # rounded up, as pooling with ceil_mode does
        self.hidden = nn.Linear(channels * image_size**2, channels, bias=False)
        self.head = nn.Linear(channels, ways, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise all weights by He's rule."""
        # without norms, torch's smaller default weights would let the signal vanish from layer to layer
        for weight in self.parameters():
            nn.init.kaiming_normal_(weight, nonlinearity="relu")

    def forward(self, x: Tensor, fast: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return the hidden layer before its ReLU, and logits.

        Args:
            x: images.
            fast: fast weights by the name of the slow parameter; a layer without any takes the slow path alone.
        """
        check_images(self, x, *self.expected)
        fast = {} if fast is None else fast
        for i, convolution in enumerate(self.convolutions):
            out = convolution(x).relu()
            if (weight := fast.get(f"convolutions.{i}.weight")) is not None:
                out = out + F.conv2d(x, weight, padding=1).relu()
            # ceil_mode pads images of odd size, so that five blocks reduce 28 pixels to one
            x = F.max_pool2d(out, 2, ceil_mode=True)
        x = x.flatten(1)
        # the key by which a memory of fast weights is read: slow plus fast, but without ReLU
        key, out = self.hidden(x), self.hidden(x).relu()
        if (weight := fast.get("hidden.weight")) is not None:
            key, out = key + x @ weight.T, out + (x @ weight.T).relu()
        logits = self.head(out)
        if (weight := fast.get("head.weight")) is not None:
            logits = logits + out @ weight.T
        return key, logits
