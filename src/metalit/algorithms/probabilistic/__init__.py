"""Probabilistic methods: learn a distribution over parameters or functions for each task."""

from metalit.algorithms.probabilistic.attentive_neural_process import AttentiveNeuralProcess
from metalit.algorithms.probabilistic.base import ParticleMetaLearner
from metalit.algorithms.probabilistic.bayesian_maml import BayesianMAML
from metalit.algorithms.probabilistic.conditional_neural_process import ConditionalNeuralProcess
from metalit.algorithms.probabilistic.deep_kernel_transfer import DeepKernelTransfer
from metalit.algorithms.probabilistic.neural_process import NeuralProcess
from metalit.algorithms.probabilistic.platipus import PLATIPUS

__all__ = [
    "PLATIPUS",
    "AttentiveNeuralProcess",
    "BayesianMAML",
    "ConditionalNeuralProcess",
    "DeepKernelTransfer",
    "NeuralProcess",
    "ParticleMetaLearner",
]
