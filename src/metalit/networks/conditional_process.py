"""The network of a conditional neural process (Garnelo et al. 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.expected_inputs import known
from metalit.networks.mlp import MLP


class ConditionalProcess(nn.Module):
    """An encoder of labelled points, whose mean code conditions a decoder (Garnelo et al. 2018).

    Args:
        inputs: length of an input, e.g. 2 for the coordinates of a pixel. If not given: on the command line and in
            ``metalit.load`` that of the data, else 1.
        outputs: length of a target, e.g. 1 for a grey value; if not given, as ``inputs``.
        hidden: width of all layers and length of a code.
        encoder_layers: linear layers of the encoder, >= 1.
        decoder_layers: linear layers of the decoder, >= 1.

    Shape:
        context inputs ``[C, inputs]`` and targets ``[C, outputs]``, a mask ``[C]`` of 0 and 1, and inputs
        ``[n, inputs]`` to mean and log standard deviation of Gaussians, ``[n, outputs]`` each.

    Raises:
        SettingError: a number is below 1.
    """

    def __init__(
        self,
        inputs: int | None = None,
        outputs: int | None = None,
        hidden: int = 128,
        encoder_layers: int = 4,
        decoder_layers: int = 3,
    ) -> None:
        super().__init__()
        inputs, outputs = known(inputs), known(outputs)
        at_least(1, encoder_layers=encoder_layers, decoder_layers=decoder_layers)
        self.encoder = MLP(inputs + outputs, [hidden] * (encoder_layers - 1), hidden)
        self.decoder = MLP(inputs + hidden, [hidden] * (decoder_layers - 1), 2 * outputs)

    def forward(self, context_x: Tensor, context_y: Tensor, counts: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the predicted Gaussians."""
        return self.decode(self.encode(context_x, context_y, counts), x)

    def encode(self, context_x: Tensor, context_y: Tensor, counts: Tensor) -> Tensor:
        """Return the mean code of a context, ``[hidden]``, which does not depend on the order of its points."""
        return masked_mean(self.encoder(torch.cat([context_x, context_y], dim=-1)), counts)

    def decode(self, code: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation at inputs ``[n, inputs]``, given the mean code of a context."""
        return bounded_gaussian(self.decoder(torch.cat([x, code.expand(len(x), -1)], dim=-1)))


def masked_mean(codes: Tensor, counts: Tensor) -> Tensor:
    """Return the mean ``[D]`` of the codes ``[C, D]`` whose ``counts [C]`` is 1 and not 0."""
    # a product with the mask keeps one shape for contexts of random size, so that tasks can be batched
    return counts @ codes / counts.sum()


def bounded_gaussian(output: Tensor) -> tuple[Tensor, Tensor]:
    """Split an output ``[..., 2 * outputs]`` into mean and log standard deviation; the latter exceeds log 0.1."""
    mean, raw = output.chunk(2, dim=-1)
    # as in the authors' code; no point can be more certain than 0.1, so targets of very small scale have to be scaled
    return mean, (0.1 + 0.9 * F.softplus(raw)).log()
