"""One layer of self-attention over a set, as in FEAT (Ye et al. 2020)."""

import math

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check


class SetAttention(nn.Module):
    """Scaled dot-product self-attention with a residual connection and a layer norm (Vaswani et al. 2017).

        out_i = LayerNorm(x_i + W sum_j softmax_j(q_i . k_j / sqrt(D)) v_j)

    The order of the members does not matter. Each head has queries, keys and values of the full length D.

    Args:
        features: D, length of a member, >= 1.
        heads: number of attention heads, >= 1.
        dropout: dropout probability of the attention's output before it is added, in [0, 1).

    Shape:
        ``[n, D]`` to ``[n, D]``; the optional mask ``[n, n]`` is boolean, true where member i may attend to member j.

    Raises:
        SettingError: a number is out of range.
    """

    def __init__(self, features: int, heads: int = 1, dropout: float = 0.5) -> None:
        super().__init__()
        at_least(1, features=features, heads=heads)
        check("dropout", dropout, 0 <= dropout < 1, "a number in [0, 1)")
        self.heads = heads
        # D per head, where nn.MultiheadAttention divides D among the heads
        self.queries, self.keys, self.values = (nn.Linear(features, heads * features, bias=False) for _ in range(3))
        for layer in (self.queries, self.keys, self.values):
            nn.init.normal_(layer.weight, std=features**-0.5)
        self.out = nn.Linear(heads * features, features)
        nn.init.xavier_normal_(self.out.weight)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(features)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the set after self-attention, ``[n, D]``."""
        n, features = x.shape

        def split(values: Tensor) -> Tensor:  # [heads, n, D]
            return values.reshape(n, self.heads, features).transpose(0, 1)

        queries, keys, values = split(self.queries(x)), split(self.keys(x)), split(self.values(x))
        scores = queries @ keys.mT / math.sqrt(features)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        read = (scores.softmax(dim=-1) @ values).transpose(0, 1).reshape(n, -1)
        return self.norm(x + self.dropout(self.out(read)))  # type: ignore[no-any-return]
