"""Encoders of texts: from token ids and their mask ``[n, T]`` to embeddings ``[n, D]``.

The rule here: padding never changes an embedding.
"""

from metalit.networks.texts.bag_of_words import BagOfWords
from metalit.networks.texts.pretrained_text import PretrainedText
from metalit.networks.texts.static_vectors import StaticVectors
from metalit.networks.texts.text_transformer import TextTransformer

__all__ = ["BagOfWords", "PretrainedText", "StaticVectors", "TextTransformer"]
