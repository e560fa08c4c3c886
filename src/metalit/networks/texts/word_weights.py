"""Weights of words by how rare they are in the training texts."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from metalit.episode import MarkedTokens, Tokens
from metalit.errors import UserError, at_least
from metalit.networks.training_inputs import ObservesInputs

Weighting = Literal["idf", "none"]


class WordWeights(nn.Module, ObservesInputs):
    """A weight for each token id: its smoothed inverse document frequency, or 1.

        idf_w = log((1 + n) / (1 + n_w)) + 1

    with n training texts, n_w of which hold the word w; the formula of scikit-learn's ``TfidfVectorizer``. A word that
    no training text holds has the largest weight.

    Args:
        vocabulary: V, number of token ids, >= 1.
        weighting: ``idf``, observed from the training inputs, or ``none``, which weights all words alike.

    Shape:
        tokens ``[n, T]`` to weights ``[n, T]``, 0 where there is no token.
    """

    idf: Tensor

    def __init__(self, vocabulary: int, weighting: Weighting = "idf") -> None:
        super().__init__()
        at_least(1, vocabulary=vocabulary)
        self.vocabulary, self.weighting = vocabulary, weighting
        # an observed idf is at least 1, so zeros say that nothing was observed, in a checkpoint too
        self.register_buffer("idf", torch.zeros(vocabulary) if weighting == "idf" else torch.ones(vocabulary))

    def forward(self, x: Tokens | MarkedTokens) -> Tensor:
        """Return the weight of each token."""
        return self.known()[x.ids] * x.mask

    def known(self) -> Tensor:
        """Return the weights ``[V]``.

        Raises:
            UserError: the training inputs have not been observed.
        """
        # the compiler cannot branch on a value; a learner that compiles has been trained, hence has observed
        if not torch.compiler.is_compiling() and not self.observed:
            raise UserError(
                "the weights of words (idf) are computed from the training texts, which have not been seen yet: train, "
                "test or validate with a data module first, call learner.decide(data), or give weighting: none"
            )
        return self.idf

    @property
    def observed(self) -> bool:
        """Whether the weights are known."""
        return bool(self.idf.any())

    @torch.no_grad()
    def observe(self, batches: Iterable[Tokens | MarkedTokens]) -> None:
        """Count in how many texts each word is, and compute the weights."""
        containing, texts = torch.zeros(self.vocabulary, dtype=torch.float64), 0
        for x in batches:
            # a column more than there are words takes the padding
            present = torch.zeros(len(x.ids), self.vocabulary + 1, dtype=torch.bool, device=x.ids.device)
            present.scatter_(1, x.ids.masked_fill(~x.mask, self.vocabulary), True)
            containing += present[:, :-1].sum(dim=0).cpu()
            texts += len(x.ids)
        self.idf.copy_(((1 + texts) / (1 + containing)).log() + 1)

    def extra_repr(self) -> str:
        """Return vocabulary and weighting."""
        return f"{self.vocabulary}, weighting={self.weighting}"
