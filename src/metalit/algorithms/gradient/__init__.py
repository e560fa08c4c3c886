"""Gradient-based methods: learn a task by descending its support loss."""

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.algorithms.gradient.fomaml import FOMAML
from metalit.algorithms.gradient.maml import MAML

__all__ = ["FOMAML", "MAML", "GradientBasedMetaLearner"]
