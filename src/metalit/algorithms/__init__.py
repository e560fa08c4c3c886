"""Meta-learning algorithms, one final class a file."""

from metalit.algorithms.base import MetaLearner
from metalit.algorithms.gradient import FOMAML, MAML, GradientBasedMetaLearner
from metalit.algorithms.metric import MetricMetaLearner, PrototypicalNetwork

__all__ = [
    "FOMAML",
    "MAML",
    "GradientBasedMetaLearner",
    "MetaLearner",
    "MetricMetaLearner",
    "PrototypicalNetwork",
]
