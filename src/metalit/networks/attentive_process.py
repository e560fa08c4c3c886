"""The network of an attentive neural process."""

import math

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.networks.conditional_process import bounded_gaussian, masked_mean
from metalit.networks.mlp import MLP


class AttentiveProcess(nn.Module):
    """An encoder of whole sets, and a predictor that looks at each point of the context (Kim et al. 2019).

    Args:
        inputs: numbers in an input, e.g. 2 for the coordinates of a pixel.
        outputs: numbers in a target, e.g. 1 for a grey value.
        hidden: width of all layers, and length of the latent variable.
        heads: heads of the attention; they share ``hidden``.
        encoder_layers: linear layers of either encoder, >= 1.
        decoder_layers: linear layers of the decoder, >= 1.

    Attributes:
        latent: ``LatentEncoder``.
        predictor: ``AttentivePredictor``.
        latents: length of the latent variable.

    Raises:
        ValueError: a number below 1, or a width that the heads cannot share.
    """

    def __init__(
        self,
        inputs: int = 1,
        outputs: int = 1,
        hidden: int = 128,
        heads: int = 8,
        encoder_layers: int = 4,
        decoder_layers: int = 3,
    ) -> None:
        super().__init__()
        at_least(1, heads=heads, encoder_layers=encoder_layers, decoder_layers=decoder_layers)
        check("hidden", hidden, hidden % heads == 0, f"a multiple of heads, which is {heads}")
        self.latents = hidden
        self.latent = LatentEncoder(inputs + outputs, hidden, encoder_layers)
        self.predictor = AttentivePredictor(inputs, outputs, hidden, heads, encoder_layers, decoder_layers)


class LatentEncoder(nn.Module):
    """Turns a set of labelled points into a Gaussian of the latent variable.

    Shape:
        ``[n, inputs]``, ``[n, outputs]`` and which of them count, ``[n]``, to mean and log std, ``[hidden]`` each.
    """

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.points = MLP(inputs, [hidden] * (layers - 1), hidden)
        self.whole = MLP(hidden, [hidden], 2 * hidden)

    def forward(self, x: Tensor, y: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gaussian, its std between 0.1 and 1."""
        codes = self.points(torch.cat([x, y], dim=-1))
        mean, raw = self.whole(masked_mean(codes, counts)).chunk(2, dim=-1)
        return mean, (0.1 + 0.9 * raw.sigmoid()).log()


class AttentivePredictor(nn.Module):
    """Predicts from a context, of which each input sees the points that are like it, and from latent variables.

    Shape:
        context ``[C, inputs]`` and ``[C, outputs]``, which of it counts ``[C]``, latent variables ``[M, hidden]`` and
        inputs ``[n, inputs]``, to the mean and the log standard deviation of Gaussians, ``[M, n, outputs]`` each.
    """

    def __init__(
        self, inputs: int, outputs: int, hidden: int, heads: int, encoder_layers: int, decoder_layers: int
    ) -> None:
        super().__init__()
        self.heads = heads
        self.encoder = MLP(inputs + outputs, [hidden] * (encoder_layers - 1), hidden)
        self.place = MLP(inputs, [hidden], hidden)
        self.query, self.key, self.value, self.join = (nn.Linear(hidden, hidden) for _ in range(4))
        self.decoder = MLP(inputs + 2 * hidden, [hidden] * (decoder_layers - 1), 2 * outputs)

    def forward(
        self, context_x: Tensor, context_y: Tensor, counts: Tensor, latent: Tensor, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the predicted Gaussians, for each latent variable."""
        return self.decode(self.encode(context_x, context_y, counts), latent, x)

    def encode(self, context_x: Tensor, context_y: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what inputs look at: places and codes of the context, ``[C, hidden]`` each, and which count."""
        return self.place(context_x), self.encoder(torch.cat([context_x, context_y], dim=-1)), counts

    def decode(self, context: tuple[Tensor, Tensor, Tensor], latent: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gaussians at ``[n, inputs]`` for latent variables ``[M, hidden]`` and an encoded context."""
        seen = self.attend(self.place(x), *context)
        shape = (len(latent), len(x), -1)
        parts = [x.expand(shape), seen.expand(shape), latent.unsqueeze(1).expand(shape)]
        return bounded_gaussian(self.decoder(torch.cat(parts, dim=-1)))

    def attend(self, at: Tensor, places: Tensor, codes: Tensor, counts: Tensor) -> Tensor:
        """Return what is seen of ``codes [C, hidden]`` at ``places [C, hidden]`` from ``at [n, hidden]``."""
        query, key, value = (
            layer(part).reshape(len(part), self.heads, -1).transpose(0, 1)
            for layer, part in ((self.query, at), (self.key, places), (self.value, codes))
        )
        scores = query @ key.transpose(1, 2) / math.sqrt(key.shape[-1])
        weights = scores.masked_fill(counts == 0, -math.inf).softmax(dim=-1)
        return self.join((weights @ value).transpose(0, 1).flatten(1))  # type: ignore[no-any-return]
