"""The network of an attentive neural process (Kim et al. 2019)."""

import math

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.networks.conditional_process import bounded_gaussian, masked_mean
from metalit.networks.expected_inputs import known
from metalit.networks.mlp import MLP


class AttentiveProcess(nn.Module):
    """A latent encoder of a whole set and a predictor with cross-attention to the context (Kim et al. 2019).

    Args:
        inputs: length of an input, e.g. 2 for the coordinates of a pixel. If not given: on the command line and in
            ``metalit.load`` that of the data, else 1.
        outputs: length of a target, e.g. 1 for a grey value; if not given, as ``inputs``.
        hidden: width of all layers and length of the latent variable; a multiple of ``heads``.
        heads: attention heads, which divide ``hidden`` among them.
        encoder_layers: linear layers of each of the two encoders, >= 1.
        decoder_layers: linear layers of the decoder, >= 1.

    Attributes:
        latent: ``LatentEncoder``.
        predictor: ``AttentivePredictor``.
        latents: length of the latent variable.

    Raises:
        SettingError: a number is below 1, or ``hidden`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        inputs: int | None = None,
        outputs: int | None = None,
        hidden: int = 128,
        heads: int = 8,
        encoder_layers: int = 4,
        decoder_layers: int = 3,
    ) -> None:
        super().__init__()
        inputs, outputs = known(inputs), known(outputs)
        inputs, outputs = known(inputs), known(outputs)
        at_least(1, heads=heads, encoder_layers=encoder_layers, decoder_layers=decoder_layers)
        check("hidden", hidden, hidden % heads == 0, f"a multiple of heads, which is {heads}")
        self.latents = hidden
        self.latent = LatentEncoder(inputs + outputs, hidden, encoder_layers)
        self.predictor = AttentivePredictor(inputs, outputs, hidden, heads, encoder_layers, decoder_layers)


class LatentEncoder(nn.Module):
    """Encodes a set of labelled points as a Gaussian of the latent variable.

    Shape:
        inputs ``[n, inputs]``, targets ``[n, outputs]`` and a mask ``[n]`` of 0 and 1 to mean and log standard
        deviation, ``[hidden]`` each.
    """

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.points = MLP(inputs, [hidden] * (layers - 1), hidden)
        self.whole = MLP(hidden, [hidden], 2 * hidden)

    def forward(self, x: Tensor, y: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the Gaussian; the standard deviation is between 0.1 and 1."""
        codes = self.points(torch.cat([x, y], dim=-1))
        mean, raw = self.whole(masked_mean(codes, counts)).chunk(2, dim=-1)
        return mean, (0.1 + 0.9 * raw.sigmoid()).log()


class AttentivePredictor(nn.Module):
    """Predicts Gaussians from latent variables and from each input's attention to the context.

    Shape:
        context inputs ``[C, inputs]`` and targets ``[C, outputs]``, a mask ``[C]`` of 0 and 1, latent variables
        ``[M, hidden]`` and inputs ``[n, inputs]`` to mean and log standard deviation, ``[M, n, outputs]`` each.
    """

    def __init__(
        self, inputs: int, outputs: int, hidden: int, heads: int, encoder_layers: int, decoder_layers: int
    ) -> None:
        super().__init__()
        self.heads = heads
        self.encoder = MLP(inputs + outputs, [hidden] * (encoder_layers - 1), hidden)
        self.place = MLP(inputs, [hidden], hidden)
        # heads share the width by one linear layer each for queries, keys and values, as in today's transformers
        self.query, self.key, self.value, self.join = (nn.Linear(hidden, hidden) for _ in range(4))
        self.decoder = MLP(inputs + 2 * hidden, [hidden] * (decoder_layers - 1), 2 * outputs)

    def forward(
        self, context_x: Tensor, context_y: Tensor, counts: Tensor, latent: Tensor, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the predicted Gaussians for each latent variable."""
        return self.decode(self.encode(context_x, context_y, counts), latent, x)

    def encode(self, context_x: Tensor, context_y: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and values of the context before projection, ``[C, hidden]`` each, and its mask ``[C]``."""
        # keys see the inputs only, so that they can be compared with queries, whose targets are unknown
        return self.place(context_x), self.encoder(torch.cat([context_x, context_y], dim=-1)), counts

    def decode(self, context: tuple[Tensor, Tensor, Tensor], latent: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gaussians at ``[n, inputs]``, given latent variables ``[M, hidden]`` and an encoded context."""
        # the attention does not depend on the latent variable, so all M draws share it
        seen = self.attend(self.place(x), *context)
        shape = (len(latent), len(x), -1)
        parts = [x.expand(shape), seen.expand(shape), latent.unsqueeze(1).expand(shape)]
        return bounded_gaussian(self.decoder(torch.cat(parts, dim=-1)))

    def attend(self, at: Tensor, places: Tensor, codes: Tensor, counts: Tensor) -> Tensor:
        """Return multi-head attention of ``at [n, hidden]`` to ``places [C, hidden]`` with values ``codes``."""
        query, key, value = (
            layer(part).reshape(len(part), self.heads, -1).transpose(0, 1)
            for layer, part in ((self.query, at), (self.key, places), (self.value, codes))
        )
        scores = query @ key.transpose(1, 2) / math.sqrt(key.shape[-1])
        # masked, not removed: contexts of random size keep one shape, so that tasks can be batched
        weights = scores.masked_fill(counts == 0, -math.inf).softmax(dim=-1)
        return self.join((weights @ value).transpose(0, 1).flatten(1))  # type: ignore[no-any-return]
