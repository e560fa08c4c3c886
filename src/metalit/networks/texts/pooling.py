"""One vector for a text, from the hidden states of its tokens."""

from typing import Literal

import torch
from torch import Tensor

from metalit.episode import MarkedTokens, Tokens
from metalit.errors import SettingError

TextPool = Literal["mean", "first", "last", "marks"]


def pooled_text(states: Tensor, x: Tokens | MarkedTokens, pool: TextPool, weights: Tensor | None = None) -> Tensor:
    """Return embeddings ``[n, D]``, or ``[n, 2 D]`` for ``marks``.

    Args:
        states: hidden states ``[n, T, D]``.
        x: the tokens ``[n, T]``.
        pool: the ``mean`` over the tokens; the ``first`` or ``last`` token; or the states at the two ``marks`` of a
            relation, one behind the other (Baldini Soares et al. 2019, https://arxiv.org/abs/1906.03158).
        weights: of the mean, ``[n, T]``, 0 where there is no token; all tokens weigh alike if not given.

    Raises:
        SettingError: ``marks`` for texts that have none.
    """
    if pool == "mean":
        weights = x.mask.to(states.dtype) if weights is None else weights.to(states.dtype)
        # a product with 0 in place of a choice of places, which vmap forbids; hidden states of padding are finite
        return (weights.unsqueeze(-1) * states).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    if pool == "first":
        return states[:, 0]
    if pool == "last":
        return at(states, x.mask.sum(dim=1, keepdim=True) - 1).flatten(1)
    if not isinstance(x, MarkedTokens):
        raise SettingError("pool", pool, "mean, first or last: these texts have no two marked places")
    return at(states, x.spans).flatten(1)


def at(states: Tensor, places: Tensor) -> Tensor:
    """Return the states ``[n, m, D]`` at places ``[n, m]``."""
    return torch.gather(states, 1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def pooled_length(width: int, pool: TextPool) -> int:
    """Return D of the embeddings, given that of the hidden states."""
    return 2 * width if pool == "marks" else width
