"""Heads: how a task's support set becomes a classifier of embeddings, and what embeddings are compared by.

The rule of this room: a head sees embeddings and the labels of the support set, and not the network that embeds.
"""

from metalit.heads.attention import FullContext, SupportAttention
from metalit.heads.base import Head
from metalit.heads.class_means import AdaptedClassMeans, NearestClassMean, NormalisedClassMean
from metalit.heads.closed_form import RidgeRegression, SupportVectorMachine
from metalit.heads.fitted_classifiers import CosineClassifier, FittedClassifier, LinearClassifier
from metalit.heads.pairs import LearnedRelation, Verification
from metalit.heads.similarities import Cosine, Similarity, SquaredEuclidean, WeightedL1

__all__ = [
    "AdaptedClassMeans",
    "Cosine",
    "CosineClassifier",
    "FittedClassifier",
    "FullContext",
    "Head",
    "LearnedRelation",
    "LinearClassifier",
    "NearestClassMean",
    "NormalisedClassMean",
    "RidgeRegression",
    "Similarity",
    "SquaredEuclidean",
    "SupportAttention",
    "SupportVectorMachine",
    "Verification",
    "WeightedL1",
]
