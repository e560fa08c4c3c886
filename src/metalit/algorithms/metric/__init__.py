"""Metric-based methods: predict for queries by comparing embeddings."""

from metalit.algorithms.metric.alpha_tim import AlphaTIM
from metalit.algorithms.metric.base import EmbeddingLearner, MetricMetaLearner
from metalit.algorithms.metric.baseline import Baseline
from metalit.algorithms.metric.baseline_plus_plus import BaselinePlusPlus
from metalit.algorithms.metric.contrastive_probe import ContrastiveProbe
from metalit.algorithms.metric.feat import FEAT
from metalit.algorithms.metric.kernel_regression import KernelRegression
from metalit.algorithms.metric.laplacian_shot import LaplacianShot
from metalit.algorithms.metric.logistic_probe import LogisticProbe
from metalit.algorithms.metric.mahalanobis_prototypes import MahalanobisPrototypes
from metalit.algorithms.metric.matching_network import MatchingNetwork
from metalit.algorithms.metric.meta_baseline import MetaBaseline
from metalit.algorithms.metric.metaoptnet import MetaOptNet
from metalit.algorithms.metric.pmf import PMF
from metalit.algorithms.metric.pretraining import PretrainingLearner
from metalit.algorithms.metric.prototypical_network import PrototypicalNetwork
from metalit.algorithms.metric.pt_map import PTMAP
from metalit.algorithms.metric.r2d2 import R2D2
from metalit.algorithms.metric.relation_network import RelationNetwork
from metalit.algorithms.metric.ridge_probe import RidgeProbe
from metalit.algorithms.metric.siamese_network import SiameseNetwork
from metalit.algorithms.metric.simple_shot import SimpleShot
from metalit.algorithms.metric.tim import TIM
from metalit.algorithms.metric.tip_adapter import TipAdapter
from metalit.algorithms.metric.tip_adapter_f import TipAdapterF

__all__ = [
    "FEAT",
    "PMF",
    "PTMAP",
    "R2D2",
    "TIM",
    "AlphaTIM",
    "Baseline",
    "BaselinePlusPlus",
    "ContrastiveProbe",
    "EmbeddingLearner",
    "KernelRegression",
    "LaplacianShot",
    "LogisticProbe",
    "MahalanobisPrototypes",
    "MatchingNetwork",
    "MetaBaseline",
    "MetaOptNet",
    "MetricMetaLearner",
    "PretrainingLearner",
    "PrototypicalNetwork",
    "RelationNetwork",
    "RidgeProbe",
    "SiameseNetwork",
    "SimpleShot",
    "TipAdapter",
    "TipAdapterF",
]
