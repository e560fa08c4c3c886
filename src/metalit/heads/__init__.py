"""Heads: how a task's support set becomes a classifier of embeddings, and what embeddings are compared by."""

from metalit.heads.base import Head
from metalit.heads.nearest_class_mean import NearestClassMean
from metalit.heads.similarities import Cosine, Similarity, SquaredEuclidean

__all__ = ["Cosine", "Head", "NearestClassMean", "Similarity", "SquaredEuclidean"]
