"""The encoder and relation network of LEO (Rusu et al. 2019)."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check


class RelationEncoder(nn.Module):
    """A linear code of each example, then a relation network over all pairs of codes (Rusu et al. 2019, section 2.2).

        c_i = W dropout(x_i);    out_i = 1/n sum_j MLP([c_i, c_j])

    No layer has a bias. The relation network has three layers, twice as wide as a code. The order of the examples does
    not matter.

    Args:
        features: length of an example, >= 1.
        latents: length of a code, >= 1.
        dropout: probability of dropping a feature of an example in training, in [0, 1).

    Shape:
        ``[n, features]``, and a mask ``[n]`` that is False for padding or None, to ``[n, 2 * latents]``; time and
        memory are quadratic in n.

    Raises:
        SettingError: a length is below 1, or ``dropout`` is outside [0, 1).
    """

    def __init__(self, features: int, latents: int, dropout: float = 0.0) -> None:
        super().__init__()
        at_least(1, features=features, latents=latents)
        check("dropout", dropout, 0 <= dropout < 1, "a number in [0, 1)")
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, latents, bias=False)
        width = 2 * latents
        self.relation = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the encoded set, ``[n, 2 * latents]``."""
        codes = self.linear(self.dropout(x))
        n = len(codes)
        # every ordered pair, an example with itself included
        pairs = torch.cat([codes.unsqueeze(1).expand(-1, n, -1), codes.unsqueeze(0).expand(n, -1, -1)], dim=-1)
        related: Tensor = self.relation(pairs)
        if mask is None:
            return related.mean(dim=1)
        return (related * mask.to(related.dtype).reshape(1, n, 1)).sum(dim=1) / mask.sum()
