"""An encoder in which the examples of a set see one another."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check


class RelationEncoder(nn.Module):
    """A linear code of each example, then a network over all pairs of codes (Rusu et al. 2019, section 2.2).

        c_i = W dropout(x_i);    out_i = 1/n sum_j MLP([c_i, c_j])

    No layer has a bias; the network has three layers of twice the code's length. The order of the examples does not
    matter.

    Args:
        features: length of an example, >= 1.
        latents: length of a code, >= 1.
        dropout: share of each example's features that is dropped in training, in [0, 1).

    Shape:
        ``[n, features]`` to ``[n, 2 * latents]``; time and memory grow with n squared.

    Raises:
        ValueError: a length below 1, or a share outside [0, 1).
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

    def forward(self, x: Tensor) -> Tensor:
        """Encode a set of examples."""
        codes = self.linear(self.dropout(x))
        n = len(codes)
        pairs = torch.cat([codes.unsqueeze(1).expand(-1, n, -1), codes.unsqueeze(0).expand(n, -1, -1)], dim=-1)
        return self.relation(pairs).mean(dim=1)  # type: ignore[no-any-return]
