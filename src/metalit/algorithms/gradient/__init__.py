"""Gradient-based methods: adapt to a task by gradient descent on its support loss."""

from metalit.algorithms.gradient.adaptive_taml import AdaptiveTAML
from metalit.algorithms.gradient.anil import ANIL
from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.algorithms.gradient.boil import BOIL
from metalit.algorithms.gradient.cavia import CAVIA
from metalit.algorithms.gradient.fomaml import FOMAML
from metalit.algorithms.gradient.foml import FOML
from metalit.algorithms.gradient.imaml import IMAML
from metalit.algorithms.gradient.leo import LEO
from metalit.algorithms.gradient.lstm_meta_learner import LSTMMetaLearner
from metalit.algorithms.gradient.maml import MAML
from metalit.algorithms.gradient.maml_plus_plus import MAMLPlusPlus
from metalit.algorithms.gradient.meta_curvature import MetaCurvature
from metalit.algorithms.gradient.meta_sgd import MetaSGD
from metalit.algorithms.gradient.proto_maml import ProtoMAML
from metalit.algorithms.gradient.reptile import Reptile
from metalit.algorithms.gradient.task_agnostic_maml import TaskAgnosticMAML
from metalit.algorithms.gradient.tmaml import TMAML

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
    "MetaSGD",
    "ProtoMAML",
    "Reptile",
    "TaskAgnosticMAML",
]
