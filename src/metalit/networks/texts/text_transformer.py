"""A small transformer encoder of texts, trained from scratch, whose untrained form is already a useful embedding."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from metalit.episode import MarkedTokens, Tokens
from metalit.errors import SettingError, at_least, check, positive
from metalit.networks.texts.base import TextEncoder
from metalit.networks.texts.pooling import TextPool, pooled_length, pooled_text
from metalit.networks.texts.word_weights import Weighting, WordWeights


class TextTransformer(nn.Module, TextEncoder):
    """Word embeddings, a pre-norm transformer (Vaswani et al. 2017) over them, and pooling.

        h = E[ids];    per layer:  h <- h + attention(norm(h));   h <- h + feedforward(norm(h));    out = pool(h)

    The last matrix of each branch starts at zero and positions only turn queries and keys (Su et al. 2021,
    https://arxiv.org/abs/2104.09864). The untrained encoder is therefore a random projection of the bag of words, and
    words that no training text holds keep the directions they would have there. There are no position embeddings, so
    texts may be of any length.

    Args:
        vocabulary: V, number of token ids, >= 1; at least that of the tokenizer.
        width: D, length of the hidden states, a multiple of 2 ``heads``.
        layers: number of layers, >= 0; without any, the encoder is a mean of trained word embeddings.
        heads: attention heads, >= 1.
        feedforward: width of the hidden layer of a feedforward branch, >= 1; 2 ``width`` if not given.
        dropout: probability with which each output of a branch is dropped in training, in [0, 1).
        word_dropout: probability with which a word loses its embedding in training, in [0, 1).
        pool: ``mean``, the ``first`` or ``last`` token, or the two ``marks`` of a relation, which give 2 D features.
        weighting: ``idf`` weights the words of the mean by their rarity in the training texts; ``none`` does not.
        word_length: length of an untrained word embedding, > 0.

    Attributes:
        features: length of an embedding.

    Shape:
        tokens ``[n, T]`` to ``[n, features]``; padding does not change an embedding.

    Raises:
        SettingError: a number is out of range, or ``weighting`` for another pooling than the mean.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        feedforward: int | None = None,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        pool: TextPool = "mean",
        weighting: Weighting = "none",
        word_length: float = 1.0,
    ) -> None:
        super().__init__()
        at_least(1, vocabulary=vocabulary, width=width, heads=heads, feedforward=feedforward)
        at_least(0, layers=layers)
        check("width", width, width % (2 * heads) == 0, f"a multiple of {2 * heads}, two numbers for each head")
        for name, value in (("dropout", dropout), ("word_dropout", word_dropout)):
            check(name, value, 0 <= value < 1, "a number in [0, 1)")
        check("weighting", weighting, weighting == "none" or pool == "mean", f"none, with pool: {pool}")
        self.vocabulary, self.heads, self.pool = vocabulary, heads, pool
        self.settings = {
            "width": width,
            "layers": layers,
            "heads": heads,
            "feedforward": feedforward or 2 * width,
            "dropout": dropout,
            "word_dropout": word_dropout,
            "pool": pool,
            "weighting": weighting,
            "word_length": word_length,
        }
        self.features = pooled_length(width, pool)
        self.words = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.words.weight, std=positive("word_length", word_length) * width**-0.5)
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, feedforward or 2 * width, dropout) for _ in range(layers)
        )
        self.weights = WordWeights(vocabulary, weighting)
        self.drop_word = nn.Dropout(word_dropout)

    def setting(self) -> dict[str, Any]:
        """Return the class, and its arguments."""
        return {"encoder": type(self).__name__, "encoder_settings": self.settings}

    def forward(self, x: Tokens | MarkedTokens) -> Tensor:
        """Return embeddings ``[n, features]``."""
        if not isinstance(x, Tokens | MarkedTokens):
            raise SettingError("network", type(self).__name__, f"an encoder of a {type(x).__name__}: texts are Tokens")
        states = self.words(x.ids)
        # one number for each word, so that it goes as a whole
        states = states * self.drop_word(torch.ones_like(states[..., :1]))
        hidden = additive_mask(x.mask, states.dtype)
        turn = turns(x.ids.shape[-1], states.shape[-1] // self.heads, states) if self.layers else None
        for layer in self.layers:
            states = layer(states, hidden, turn)
        return pooled_text(states, x, self.pool, self.weights(x) if self.pool == "mean" else None)


class EncoderLayer(nn.Module):
    """Self-attention and a feedforward branch, each behind a layer norm and added to its input.

    Args:
        width: D, length of the hidden states.
        heads: attention heads.
        feedforward: width of the feedforward branch's hidden layer.
        dropout: probability with which an output of a branch is dropped.

    Shape:
        ``[n, T, D]``, an additive mask ``[n, 1, 1, T]`` and turns ``[2, T, D / heads / 2]`` to ``[n, T, D]``.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys, self.values = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width, bias=False)
        self.widen, self.narrow = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.drop = nn.Dropout(dropout)
        for last in (self.out.weight, self.narrow.weight, self.narrow.bias):
            nn.init.zeros_(last)

    def forward(self, states: Tensor, mask: Tensor, turn: Tensor) -> Tensor:
        """Return the hidden states after both branches."""
        states = states + self.drop(self.attended(self.attention_norm(states), mask, turn))
        widened = nn.functional.gelu(self.widen(self.feedforward_norm(states)))
        return states + self.drop(self.narrow(widened))  # type: ignore[no-any-return]

    def attended(self, states: Tensor, mask: Tensor, turn: Tensor) -> Tensor:
        """Return the output of attention, ``[n, T, D]``."""
        queries, keys, values = (
            # not by unflatten, which the compiler does not take inside vmap
            layer(states).reshape(*states.shape[:-1], self.heads, -1).transpose(1, 2)
            for layer in (self.queries, self.keys, self.values)
        )
        # written out, since torch's fused kernels have no second derivative
        scores = turned(queries, turn) @ turned(keys, turn).mT / math.sqrt(queries.shape[-1]) + mask
        return self.out((scores.softmax(dim=-1) @ values).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what hides padding when added to attention scores: ``[n, 1, 1, T]``, 0 or the lowest number."""
    hidden = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    return hidden[:, None, None, :]


def turns(length: int, size: int, like: Tensor) -> Tensor:
    """Return cosine and sine of the angle of each place and pair of numbers, ``[2, T, size / 2]``."""
    rates = 10000.0 ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), rates)
    return torch.stack([angles.cos(), angles.sin()]).to(like.device, like.dtype)


def turned(x: Tensor, turn: Tensor) -> Tensor:
    """Return ``[n, heads, T, size]`` with each pair of numbers turned by the angle of its place."""
    (cosine, sine), (even, odd) = turn, (x[..., 0::2], x[..., 1::2])
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)
