"""The bag of words: a text as the weighted counts of its words."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.episode import MarkedTokens, Tokens
from metalit.networks.texts.base import TextEncoder
from metalit.networks.texts.word_weights import Weighting, WordWeights


class BagOfWords(nn.Module, TextEncoder):
    """Counts the words of a text, weights them by their rarity, and scales the text to length 1 (tf-idf).

        v_w = tf_w idf_w,    embedding = v / |v|

    with the count tf_w of word w, or 1 + log(count) with ``log_counts``, and ``WordWeights``' idf_w. These are the
    definitions of scikit-learn's ``TfidfVectorizer``; what a word is, and whether pairs of words count too, is up to
    the tokenizer. Nothing is trained.

    Args:
        vocabulary: V, number of token ids, >= 1; at least that of the tokenizer.
        weighting: ``idf`` from the training texts, or ``none``.
        log_counts: replace a count c >= 1 by 1 + log(c); scikit-learn's ``sublinear_tf``.
        normalise: scale embeddings to length 1.

    Attributes:
        features: D = V.

    Shape:
        tokens ``[n, T]`` to ``[n, V]``.

    Raises:
        SettingError: the vocabulary is below 1.
    """

    def __init__(
        self, vocabulary: int = 32768, weighting: Weighting = "idf", log_counts: bool = False, normalise: bool = True
    ) -> None:
        super().__init__()
        self.words = WordWeights(vocabulary, weighting)
        self.vocabulary = self.features = vocabulary
        self.log_counts, self.normalise = log_counts, normalise

    def forward(self, x: Tokens | MarkedTokens) -> Tensor:
        """Return embeddings ``[n, V]``."""
        idf = self.words.known()
        zeros = idf.new_zeros(x.ids.shape[0], self.vocabulary)
        counts = zeros.scatter_add(1, x.ids, x.mask.to(idf.dtype))
        if self.log_counts:
            counts = torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0.0)
        weighted = counts * idf
        return F.normalize(weighted, dim=-1) if self.normalise else weighted

    def setting(self) -> dict[str, Any]:
        """Return the class, and how words count."""
        counts = {"log_counts": self.log_counts, "normalise": self.normalise}
        return {"encoder": type(self).__name__, "encoder_settings": {"weighting": self.words.weighting, **counts}}

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"log_counts={self.log_counts}, normalise={self.normalise}"
