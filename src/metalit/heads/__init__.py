"""Heads: how a task's support set becomes a classifier of embeddings, and what embeddings are compared by."""

from metalit.heads.adapted_class_means import AdaptedClassMeans
from metalit.heads.base import Head
from metalit.heads.cosine_classifier import CosineClassifier
from metalit.heads.fitted import FittedClassifier
from metalit.heads.full_context import FullContext
from metalit.heads.learned_relation import LearnedRelation
from metalit.heads.linear_classifier import LinearClassifier
from metalit.heads.nearest_class_mean import NearestClassMean
from metalit.heads.normalised_class_mean import NormalisedClassMean
from metalit.heads.ridge import RidgeRegression
from metalit.heads.similarities import Cosine, Similarity, SquaredEuclidean
from metalit.heads.support_attention import SupportAttention
from metalit.heads.support_vector_machine import SupportVectorMachine
from metalit.heads.verification import Verification
from metalit.heads.weighted_l1 import WeightedL1

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
