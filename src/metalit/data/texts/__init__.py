"""Texts as token ids: tokenizers, tables of texts and labels, and the data sets of few-shot text classification.

The rule here: a text has the same tokens wherever it comes from, and a vocabulary belongs to the training that fitted
it.
"""

from metalit.data.texts.banking77 import Banking77
from metalit.data.texts.clinc150 import CLINC150
from metalit.data.texts.few_joint import FewJoint
from metalit.data.texts.fewrel import FewRel
from metalit.data.texts.hashed_words import HashedWords
from metalit.data.texts.huffpost import HuffPost
from metalit.data.texts.pretrained_tokenizer import PretrainedTokenizer
from metalit.data.texts.ragged import RaggedTokens
from metalit.data.texts.text_classes import TextClasses
from metalit.data.texts.text_form import TextForm
from metalit.data.texts.tokenizer import Encoded, Tokenizer
from metalit.data.texts.vector_words import VectorWords
from metalit.data.texts.words import Words

__all__ = [
    "CLINC150",
    "Banking77",
    "Encoded",
    "FewJoint",
    "FewRel",
    "HashedWords",
    "HuffPost",
    "PretrainedTokenizer",
    "RaggedTokens",
    "TextClasses",
    "TextForm",
    "Tokenizer",
    "VectorWords",
    "Words",
]
