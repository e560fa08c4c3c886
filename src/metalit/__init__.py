"""Meta-learning and few-shot learning with PyTorch Lightning."""

from metalit.algorithms import FOMAML, MAML, MetaLearner, PrototypicalNetwork
from metalit.engine import Engine
from metalit.episode import Episode, Labelled
from metalit.loading import LoadedRun, load
from metalit.outcome import Outcome

__version__ = "0.1.0"

__all__ = [
    "FOMAML",
    "MAML",
    "Engine",
    "Episode",
    "Labelled",
    "LoadedRun",
    "MetaLearner",
    "Outcome",
    "PrototypicalNetwork",
    "load",
]
