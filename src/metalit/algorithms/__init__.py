"""Meta-learning algorithms, one final class a file."""

from metalit.algorithms.base import MetaLearner
from metalit.algorithms.gradient import (
    ANIL,
    BOIL,
    CAVIA,
    FOMAML,
    FOML,
    IMAML,
    LEO,
    MAML,
    TMAML,
    AdaptiveTAML,
    GradientBasedMetaLearner,
    LSTMMetaLearner,
    MAMLPlusPlus,
    MetaCurvature,
    MetaSGD,
    Reptile,
    TaskAgnosticMAML,
)
from metalit.algorithms.metric import MetricMetaLearner, PrototypicalNetwork

__all__ = [
    "ANIL",
    "BOIL",
    "CAVIA",
    "FOMAML",
    "FOML",
    "IMAML",
    "LEO",
    "MAML",
    "TMAML",
    "AdaptiveTAML",
    "GradientBasedMetaLearner",
    "LSTMMetaLearner",
    "MAMLPlusPlus",
    "MetaCurvature",
    "MetaLearner",
    "MetaSGD",
    "MetricMetaLearner",
    "PrototypicalNetwork",
    "Reptile",
    "TaskAgnosticMAML",
]
