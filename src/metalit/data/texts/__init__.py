"""Texts as token ids: tokenizers, tables of texts and labels, and the data sets of few-shot text classification.

The rule here: a text has the same tokens wherever it comes from, and a vocabulary belongs to the training that fitted
it.
"""

from metalit.data.texts.hashed_words import HashedWords
from metalit.data.texts.pretrained_tokenizer import PretrainedTokenizer
from metalit.data.texts.ragged import RaggedTokens
from metalit.data.texts.text_classes import TextClasses
from metalit.data.texts.text_form import TextForm
from metalit.data.texts.tokenizer import Encoded, Tokenizer
from metalit.data.texts.vector_words import VectorWords
from metalit.data.texts.words import Words

__all__ = [
    "Encoded",
    "HashedWords",
    "PretrainedTokenizer",
    "RaggedTokens",
    "TextClasses",
    "TextForm",
    "Tokenizer",
    "VectorWords",
    "Words",
]
