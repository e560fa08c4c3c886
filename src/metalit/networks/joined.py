"""Several encoders side by side."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import UserError
from metalit.networks.embedding_length import embedding_length


class Joined(nn.Module):
    """The embeddings of several encoders of the same input, weighted, one behind another.

        out = [exp(a_1) f_1(x), exp(a_2) f_2(x), ...]

    With inner products this adds the encoders' similarities, with trained weights a_i: a bag of words, which tells
    words apart exactly, beside an encoder that learns which of them are alike.

    Args:
        networks: the encoders f_i, ``[n, ...]`` to ``[n, D_i]``; each has an attribute ``features``.
        normalise: scale each f_i(x) to length 1 first. Otherwise an encoder that starts small, such as a
            ``TextTransformer`` with a small ``word_length``, starts as a small correction of the others.

    Attributes:
        features: the sum of the D_i.

    Shape:
        ``[n, ...]`` to ``[n, features]``.

    Raises:
        UserError: there are no networks, or one does not say how long its embedding is.
    """

    def __init__(self, networks: Sequence[nn.Module], normalise: bool = True) -> None:
        super().__init__()
        if not networks:
            raise UserError("Joined has no networks: give at least one")
        self.features = sum(embedding_length(network, None, "Joined") for network in networks)
        self.networks, self.normalise = nn.ModuleList(networks), normalise
        self.weights = nn.Parameter(torch.zeros(len(networks)))  # the logarithms a_i

    def forward(self, x: Any) -> Tensor:
        """Return embeddings ``[n, features]``."""
        parts = [network(x) for network in self.networks]
        if self.normalise:
            parts = [F.normalize(part, dim=-1) for part in parts]
        weights = self.weights.exp()
        return torch.cat([part * weights[place] for place, part in enumerate(parts)], dim=-1)
