"""Heads, which turn a task's support set into a classifier of embeddings, and the similarities they use.

The rule of this room: a head sees embeddings and support labels, never the encoder that produced the embeddings.
"""

from metalit.heads.attention import FullContext, SupportAttention
from metalit.heads.base import Head
from metalit.heads.cache import SupportCache
from metalit.heads.class_means import AdaptedClassMeans, NearestClassMean
from metalit.heads.closed_form import RidgeRegression, SupportVectorMachine
from metalit.heads.fitted_classifiers import CosineClassifier, FittedClassifier, LinearClassifier
from metalit.heads.gaussian_process import Conditioned, GaussianProcess
from metalit.heads.information import InformationMaximization
from metalit.heads.kernel_smoother import KernelSmoother
from metalit.heads.kernels import (
    CosineKernel,
    Kernel,
    LinearKernel,
    Matern52Kernel,
    RBFKernel,
    SpectralMixtureKernel,
)
from metalit.heads.laplacian import LaplacianRegularization
from metalit.heads.mahalanobis import MahalanobisMeans
from metalit.heads.optimal_transport import TransportedMeans
from metalit.heads.pairs import LearnedRelation, Verification
from metalit.heads.probes import LogisticRegression, RidgeClassifier
from metalit.heads.similarities import Cosine, Similarity, SquaredEuclidean, WeightedL1
from metalit.heads.transforms import EmbeddingTransform, Step, Transformed

__all__ = [
    "AdaptedClassMeans",
    "Conditioned",
    "Cosine",
    "CosineClassifier",
    "CosineKernel",
    "EmbeddingTransform",
    "FittedClassifier",
    "FullContext",
    "GaussianProcess",
    "Head",
    "InformationMaximization",
    "Kernel",
    "KernelSmoother",
    "LaplacianRegularization",
    "LearnedRelation",
    "LinearClassifier",
    "LinearKernel",
    "LogisticRegression",
    "MahalanobisMeans",
    "Matern52Kernel",
    "NearestClassMean",
    "RBFKernel",
    "RidgeClassifier",
    "RidgeRegression",
    "Similarity",
    "SpectralMixtureKernel",
    "SquaredEuclidean",
    "Step",
    "SupportAttention",
    "SupportCache",
    "SupportVectorMachine",
    "Transformed",
    "TransportedMeans",
    "Verification",
    "WeightedL1",
]
