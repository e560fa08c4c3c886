"""The network of a conditional neural process."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.mlp import MLP


class ConditionalProcess(nn.Module):
    """An encoder of labelled points, their mean, and a decoder of unlabelled ones (Garnelo et al. 2018).

    Args:
        inputs: numbers in an input, e.g. 2 for the coordinates of a pixel.
        outputs: numbers in a target, e.g. 1 for a grey value.
        hidden: width of all layers, and of the description of a set.
        encoder_layers: linear layers of the encoder, >= 1.
        decoder_layers: linear layers of the decoder, >= 1.

    Shape:
        context ``[C, inputs]`` and ``[C, outputs]``, which of it counts ``[C]``, and inputs ``[n, inputs]``, to mean
        and log standard deviation of Gaussians, ``[n, outputs]`` each.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(
        self,
        inputs: int = 1,
        outputs: int = 1,
        hidden: int = 128,
        encoder_layers: int = 4,
        decoder_layers: int = 3,
    ) -> None:
        super().__init__()
        at_least(1, encoder_layers=encoder_layers, decoder_layers=decoder_layers)
        self.encoder = MLP(inputs + outputs, [hidden] * (encoder_layers - 1), hidden)
        self.decoder = MLP(inputs + hidden, [hidden] * (decoder_layers - 1), 2 * outputs)

    def forward(self, context_x: Tensor, context_y: Tensor, counts: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predicted Gaussians."""
        return self.decode(self.encode(context_x, context_y, counts), x)

    def encode(self, context_x: Tensor, context_y: Tensor, counts: Tensor) -> Tensor:
        """Return the description of a context, ``[hidden]``."""
        return masked_mean(self.encoder(torch.cat([context_x, context_y], dim=-1)), counts)

    def decode(self, code: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gaussians at ``[n, inputs]`` that a description predicts, mean and log std."""
        return bounded_gaussian(self.decoder(torch.cat([x, code.expand(len(x), -1)], dim=-1)))


def masked_mean(codes: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of those of ``[C, D]`` codes where ``counts [C]`` is 1, not 0: ``[D]``."""
    return counts @ codes / counts.sum()


def bounded_gaussian(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log std, the two halves of a network's output ``[..., 2 * outputs]``; the std is above 0.1."""
    mean, raw = output.chunk(2, dim=-1)
    return mean, (0.1 + 0.9 * F.softplus(raw)).log()
